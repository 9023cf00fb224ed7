//! Reads. Each is one statement, and so sees one moment: everything that was acknowledged before it was asked, and,
//! since a commit becomes visible only once it is on the disk, nothing that a crash could take back.

use super::{
    failure::Failure,
    session::{AsyncAsk, Connector, Parameters, Session},
};
use crate::{
    Change, Entry, LeaseId, List, Listing, Revision,
    rows::{first_id, past, revision_of, signed},
    watch::{Bounds, Page},
    watchers::Commit,
};
use std::sync::Arc;
use tokio_postgres::Row;

/// Rows on one page of history, of which a last transaction that may go on is left for the next: more than one
/// transaction has.
const PAGE_ROWS: i64 = 512;
/// Bytes of values after which a page of history takes no further transaction.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// Reads columns of a row that the statement is known to give.
pub(super) struct Columns<'a> {
    pub(super) connector: &'a Connector,
    pub(super) row: &'a Row,
}

impl Columns<'_> {
    pub(super) fn get<'b, T: tokio_postgres::types::FromSql<'b>>(
        &'b self,
        column: usize,
    ) -> Result<T, Failure> {
        self.row.try_get(column).map_err(|error| self.connector.damaged(error))
    }

    /// A number that cannot be negative unless the database is damaged.
    pub(super) fn number(&self, column: usize) -> Result<u64, Failure> {
        let number: i64 = self.get(column)?;
        u64::try_from(number)
            .map_err(|_| self.connector.damaged(format!("{number} where there is none below 0")))
    }

    pub(super) fn lease(&self, column: usize) -> Result<Option<LeaseId>, Failure> {
        let lease: Option<i64> = self.get(column)?;
        match lease {
            Some(_) => Ok(Some(LeaseId(self.number(column)?))),
            None => Ok(None),
        }
    }

    fn key(&self, column: usize) -> Result<String, Failure> {
        String::from_utf8(self.get(column)?)
            .map_err(|error| self.connector.damaged(format!("a key is not text: {error}")))
    }

    fn bounds(&self) -> Result<Bounds, Failure> {
        Ok(Bounds { oldest: self.number(0)?, current: self.number(1)? })
    }

    /// Columns from `first` on: key, id, created, lease, value.
    fn entry(&self, first: usize) -> Result<Entry, Failure> {
        let value: &[u8] = self.get(first + 4)?;
        Ok(Entry {
            key: self.key(first)?,
            value: value.into(),
            created: self.number(first + 2)?,
            modified: revision_of(self.get(first + 1)?),
            lease: self.lease(first + 3)?,
        })
    }

    /// As [`Columns::entry`]; a removal has no `created`.
    fn change(&self, first: usize) -> Result<Change, Failure> {
        match self.get::<Option<i64>>(first + 2)? {
            Some(_) => Ok(Change::Put(self.entry(first)?)),
            None => Ok(Change::Delete { key: self.key(first)? }),
        }
    }
}

/// Where history begins and ends.
pub(super) struct AskBounds;

impl AsyncAsk<Bounds> for AskBounds {
    async fn ask(&self, connector: &Connector, session: &Session) -> Result<Bounds, Failure> {
        let row = connector.exchange(session.query_one(&session.statements.bounds, &[])).await?;
        Columns { connector, row: &row }.bounds()
    }
}

/// One key.
pub(super) struct AskKey(pub(super) String);

impl AsyncAsk<Option<Entry>> for AskKey {
    async fn ask(&self, connector: &Connector, session: &Session) -> Result<Option<Entry>, Failure> {
        let key = self.0.as_bytes();
        let row = connector.exchange(session.query_opt(&session.statements.get, &[&key])).await?;
        row.map(|row| Columns { connector, row: &row }.entry(0)).transpose()
    }
}

impl AsyncAsk<Listing> for List {
    async fn ask(&self, connector: &Connector, session: &Session) -> Result<Listing, Failure> {
        let mut from = self.prefix.as_bytes().to_vec();
        if let Some(after) = &self.after
            && after.as_bytes() >= from.as_slice()
        {
            // The next key in order.
            from = [after.as_bytes(), &[0]].concat();
        }
        let to = past(&self.prefix);
        let asked = self.limit.unwrap_or(usize::MAX);
        let most = i64::try_from(asked.saturating_add(1)).unwrap_or(i64::MAX);
        let statements = &session.statements;
        let rows = match self.at {
            None => connector.exchange(session.query(&statements.list_now, &[&from, &to, &most])).await?,
            Some(at) => {
                let before = first_id(at.saturating_add(1));
                let at = signed(at);
                let parameters: Parameters<'_, 5> = [&from, &to, &most, &before, &at];
                connector.exchange(session.query(&statements.list_at, &parameters)).await?
            }
        };
        let first = rows.first().ok_or_else(|| connector.damaged("there is no state"))?;
        let bounds = Columns { connector, row: first }.bounds()?;
        let at = self.at.unwrap_or(bounds.current);
        bounds.check(at)?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let columns = Columns { connector, row };
            if columns.get::<Option<i64>>(3)?.is_some() {
                entries.push(columns.entry(2)?);
            }
        }
        let more = entries.len() > asked;
        entries.truncate(asked);
        Ok(Listing { entries, revision: at, more })
    }
}

/// Whole transactions after one revision and up to another, as many as fit a page.
pub(super) struct AskChanges {
    pub(super) prefix: String,
    pub(super) after: Revision,
    /// `None` for the newest there is.
    pub(super) upto: Option<Revision>,
}

impl AsyncAsk<(Page, Bounds)> for AskChanges {
    async fn ask(&self, connector: &Connector, session: &Session) -> Result<(Page, Bounds), Failure> {
        let first = first_id(self.after.saturating_add(1));
        let end = self.upto.map_or(i64::MAX, |upto| first_id(upto.saturating_add(1)));
        let (prefix, past) = (self.prefix.as_bytes(), past(&self.prefix));
        let after = signed(self.after);
        let parameters: Parameters<'_, 7> = [&first, &end, &prefix, &past, &PAGE_ROWS, &after, &PAGE_BYTES];
        let rows = connector.exchange(session.query(&session.statements.changes, &parameters)).await?;
        let head = rows.first().ok_or_else(|| connector.damaged("there is no state"))?;
        let bounds = Columns { connector, row: head }.bounds()?;
        bounds.check(self.after)?;
        let mut found = 0;
        let mut changes: Vec<(Revision, Change)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let columns = Columns { connector, row };
            if let Some(id) = columns.get::<Option<i64>>(3)? {
                found = columns.get(7)?;
                changes.push((revision_of(id), columns.change(2)?));
            }
        }
        Ok((page(changes, found, self.upto.unwrap_or(bounds.current)), bounds))
    }
}

/// Groups rows into transactions. `found` is how many there were before the page's bytes cut some off, which they do
/// between transactions; a page that is full of rows may end within one, which is left for the next page.
fn page(mut changes: Vec<(Revision, Change)>, found: i64, upto: Revision) -> Page {
    let cut = i64::try_from(changes.len()).is_ok_and(|count| count < found);
    if !cut && found >= PAGE_ROWS {
        let last = changes.last().map(|(revision, _)| *revision);
        changes.retain(|(revision, _)| Some(*revision) != last);
    }
    let through =
        if cut || found >= PAGE_ROWS { changes.last().map_or(0, |(revision, _)| *revision) } else { upto };
    let mut commits: Vec<Commit> = Vec::new();
    let mut open: Option<(Revision, Vec<Change>)> = None;
    for (revision, change) in changes {
        if let Some((last, changes)) = open.take_if(|(last, _)| *last != revision) {
            commits.push(Commit { revision: last, changes: changes.into() });
        }
        open.get_or_insert((revision, Vec::new())).1.push(change);
    }
    commits.extend(open.map(|(revision, changes)| Commit { revision, changes: Arc::from(changes) }));
    Page { commits, through }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(revisions: impl IntoIterator<Item = Revision>) -> Vec<(Revision, Change)> {
        revisions.into_iter().map(|revision| (revision, Change::Delete { key: "k".into() })).collect()
    }

    fn shape(page: &Page) -> (Vec<(Revision, usize)>, Revision) {
        (page.commits.iter().map(|commit| (commit.revision, commit.changes.len())).collect(), page.through)
    }

    #[test]
    fn a_page_has_whole_transactions_and_says_how_far_it_goes() {
        assert_eq!(shape(&page(Vec::new(), 0, 9)), (vec![], 9));
        assert_eq!(shape(&page(rows([3, 3, 5]), 3, 9)), (vec![(3, 2), (5, 1)], 9));
        // The bytes were too many for those after 5.
        assert_eq!(shape(&page(rows([3, 3, 5]), 4, 9)), (vec![(3, 2), (5, 1)], 5));
        // The last one may go on past the rows of the page.
        let full =
            page(rows((0..PAGE_ROWS).map(|row| u64::try_from(row / 64).unwrap_or(0) + 1)), PAGE_ROWS, 90);
        assert_eq!((full.commits.len(), full.through), (7, 7));
    }
}
