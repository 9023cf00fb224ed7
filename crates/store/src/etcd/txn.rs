//! A transaction as etcd is asked for it, and what its answer means.
//!
//! etcd says that a comparison did not hold, and not which. So what is done in that case is to read the compared keys,
//! at the same revision, and the first that does not hold is found from what was read.

use super::{
    keys::{Root, lease_of, of_etcd, to_etcd},
    proto::{
        Compare as EtcdCompare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
};
use crate::{Compare, LeaseId, Operation, StoreError, Txn, TxnOutcome};
use bytes::Bytes;
use std::collections::BTreeSet;

/// The request for a transaction.
pub(super) fn request(root: &Root, txn: &Txn) -> TxnRequest {
    let mut success: Vec<RequestOp> =
        txn.operations.iter().map(|operation| op(operation_of(root, operation))).collect();
    if success.is_empty() {
        // etcd takes one that reads nothing for one that may be answered by whoever is behind.
        success.push(op(read(root.key(""))));
    }
    TxnRequest {
        compare: txn.compares.iter().map(|compare| compare_of(root, compare)).collect(),
        success,
        failure: txn.compares.iter().map(|compare| op(read(root.key(compared(compare))))).collect(),
    }
}

/// The leases that a transaction's keys go with.
pub(super) fn leases(txn: &Txn) -> BTreeSet<LeaseId> {
    let lease = |operation: &Operation| match operation {
        Operation::Put { lease, .. } => *lease,
        Operation::Delete { .. } => None,
    };
    txn.operations.iter().filter_map(lease).collect()
}

/// What etcd's answer to [`request`] means.
pub(super) fn outcome(txn: &Txn, answer: &TxnResponse) -> Result<TxnOutcome, StoreError> {
    if answer.succeeded {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        return Ok(TxnOutcome::Committed(of_etcd(revision)));
    }
    for (index, compare) in txn.compares.iter().enumerate() {
        let read = answer.responses.get(index).and_then(|read| read.response.as_ref());
        let Some(Response::ResponseRange(read)) = read else {
            return Err(StoreError::Corrupt(
                "etcd refused a transaction and did not read what it compared".into(),
            ));
        };
        if !holds(compare, read.kvs.first().map(|found| found.mod_revision)) {
            return Ok(TxnOutcome::Refused { compare: index });
        }
    }
    Err(StoreError::Corrupt("etcd refused a transaction of which every comparison holds".into()))
}

/// Whether a comparison holds, by etcd's revision of the key's last change.
fn holds(compare: &Compare, modified: Option<i64>) -> bool {
    match compare {
        Compare::Absent(_) => modified.is_none(),
        Compare::Present(_) => modified.is_some(),
        Compare::Modified(_, revision) => modified.is_some() && modified == to_etcd(*revision),
    }
}

fn compared(compare: &Compare) -> &str {
    let (Compare::Absent(key) | Compare::Present(key) | Compare::Modified(key, _)) = compare;
    key
}

fn compare_of(root: &Root, compare: &Compare) -> EtcdCompare {
    let (target, result, union) = match compare {
        // A key that is not there has 0.
        Compare::Absent(_) => (CompareTarget::Create, CompareResult::Equal, TargetUnion::CreateRevision(0)),
        Compare::Present(_) => {
            (CompareTarget::Create, CompareResult::Greater, TargetUnion::CreateRevision(0))
        }
        Compare::Modified(_, revision) => (
            CompareTarget::Mod,
            CompareResult::Equal,
            // One that etcd cannot get to is no key's.
            TargetUnion::ModRevision(to_etcd(*revision).unwrap_or(i64::MAX)),
        ),
    };
    EtcdCompare {
        result: result.into(),
        target: target.into(),
        key: root.key(compared(compare)),
        target_union: Some(union),
    }
}

fn operation_of(root: &Root, operation: &Operation) -> Request {
    match operation {
        Operation::Put { key, value, lease } => Request::RequestPut(PutRequest {
            key: root.key(key),
            value: Bytes::copy_from_slice(value),
            // One that etcd cannot have becomes one that it never gives: 0 would be none.
            lease: lease.map_or(0, |lease| lease_of(lease).unwrap_or(-1)),
        }),
        Operation::Delete { key } => {
            Request::RequestDeleteRange(DeleteRangeRequest { key: root.key(key), range_end: Bytes::new() })
        }
    }
}

fn read(key: Bytes) -> Request {
    Request::RequestRange(RangeRequest { key, keys_only: true, ..RangeRequest::default() })
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::{KeyValue, RangeResponse, ResponseHeader, ResponseOp};

    fn refused(modified: &[Option<i64>]) -> TxnResponse {
        let read = |modified: &Option<i64>| {
            let found = modified.map(|mod_revision| KeyValue { mod_revision, ..KeyValue::default() });
            let range = RangeResponse { kvs: found.into_iter().collect(), ..RangeResponse::default() };
            ResponseOp { response: Some(Response::ResponseRange(range)) }
        };
        TxnResponse { responses: modified.iter().map(read).collect(), ..TxnResponse::default() }
    }

    #[test]
    fn the_first_comparison_that_does_not_hold_is_named() {
        let txn = Txn::new()
            .when(Compare::Absent("a".into()))
            .when(Compare::Present("b".into()))
            .when(Compare::Modified("c".into(), 6));
        let of = |modified: &[Option<i64>]| outcome(&txn, &refused(modified));
        assert_eq!(of(&[Some(2), None, None]), Ok(TxnOutcome::Refused { compare: 0 }));
        assert_eq!(of(&[None, None, None]), Ok(TxnOutcome::Refused { compare: 1 }));
        assert_eq!(of(&[None, Some(2), Some(6)]), Ok(TxnOutcome::Refused { compare: 2 }));
        assert_eq!(of(&[None, Some(2), None]), Ok(TxnOutcome::Refused { compare: 2 }));
        // Nothing is made up where the answer does not say it.
        assert!(matches!(of(&[None, Some(2), Some(7)]), Err(StoreError::Corrupt(_))));
        assert!(matches!(of(&[None]), Err(StoreError::Corrupt(_))));
        let header = Some(ResponseHeader { revision: 8, ..ResponseHeader::default() });
        let committed = TxnResponse { header, succeeded: true, responses: Vec::new() };
        assert_eq!(outcome(&txn, &committed), Ok(TxnOutcome::Committed(7)));
    }

    #[test]
    fn what_etcd_cannot_have_is_asked_for_as_what_it_never_has() {
        let root = Root::new("t");
        for lease in [0, u64::MAX] {
            let asked = request(&root, &Txn::new().put_leased("a", *b"1", LeaseId(lease)));
            let Some(Request::RequestPut(put)) = asked.success.first().and_then(|op| op.request.clone())
            else {
                panic!("{asked:?}")
            };
            assert_eq!(put.lease, -1);
        }
        let asked = request(&root, &Txn::new().when(Compare::Modified("a".into(), u64::MAX)));
        assert_eq!(asked.compare[0].target_union, Some(TargetUnion::ModRevision(i64::MAX)));
        assert_eq!((asked.success.len(), asked.failure.len()), (1, 1));
    }
}
