//! Desired state to instances on this node; node proxy; health; ledger
