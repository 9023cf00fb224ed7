//! What is asked of the database once it is open, prepared on each connection.
//!
//! Each read is one statement, so that all it sees, the bounds of history too, is of one moment. The statements of a
//! batch run under the lock of `state`; each sees what is committed when it begins, and so all that was committed
//! before the lock was had.

use futures_util::try_join;
use tokio_postgres::{Client, Statement};

/// For how long nobody may have looked for expired leases before it counts as an outage, in which nobody could keep
/// one alive either.
macro_rules! outage {
    () => {
        "interval '5 s'"
    };
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        /// The statements, prepared on one connection.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: Statement,)*
        }

        impl Statements {
            pub(super) async fn prepare(client: &Client) -> Result<Statements, tokio_postgres::Error> {
                let ($($name,)*) = try_join!($(client.prepare($sql)),*)?;
                Ok(Statements { $($name,)* })
            }
        }
    };
}

statements! {
    /// Waits until no other writer is at work, and gives the head.
    lock = "SELECT revision, compacted, lease FROM tutti.state FOR UPDATE";
    /// The rows of these keys.
    keys = "SELECT key, id, created, lease FROM tutti.current WHERE key = ANY($1::bytea[])";
    /// The rows of the keys of these leases.
    keys_of = "SELECT key, id, created, lease FROM tutti.current WHERE lease = ANY($1::bigint[])";
    /// Which of these leases there are, and whether each is live.
    leases = concat!(
        "SELECT l.id, l.expires > clock_timestamp() OR k.at <= clock_timestamp() - ", outage!(),
        " FROM tutti.lease l, tutti.look k WHERE l.id = ANY($1::bigint[])"
    );
    /// Some leases whose time is up and that nobody is just keeping alive.
    due = concat!(
        "SELECT id FROM tutti.lease
         WHERE expires <= clock_timestamp()
           AND (SELECT at FROM tutti.look) > clock_timestamp() - ", outage!(),
        " ORDER BY expires LIMIT $1::bigint FOR UPDATE SKIP LOCKED"
    );
    /// How many leases there are.
    count_leases = "SELECT count(*) FROM tutti.lease";
    put_history = "INSERT INTO tutti.history (id, key, created, lease, value)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[])";
    put_current = "INSERT INTO tutti.current (key, id, created, lease)
        SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
        ON CONFLICT (key) DO UPDATE SET id = excluded.id, created = excluded.created, lease = excluded.lease";
    drop_current = "DELETE FROM tutti.current WHERE key = ANY($1::bytea[])";
    put_leases = "INSERT INTO tutti.lease (id, ttl, expires)
        SELECT id, ttl, clock_timestamp() + ttl * interval '1 ms' FROM unnest($1::bigint[], $2::bigint[]) AS g (id, ttl)";
    drop_leases = "DELETE FROM tutti.lease WHERE id = ANY($1::bigint[])";
    /// The new head, whose batch made it, and the notice that goes out with the commit.
    finish = "WITH batch AS (
            INSERT INTO tutti.writer (id, batch, seen) VALUES ($1::bytea, $2::bigint, clock_timestamp())
            ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, seen = excluded.seen
        ), head AS (
            UPDATE tutti.state SET revision = $3::bigint, compacted = $4::bigint, lease = $5::bigint
        )
        SELECT pg_notify('tutti', $3::bigint::text)";
    /// The last batch of a writer that took effect.
    last_batch = "SELECT batch FROM tutti.writer WHERE id = $1::bytea";

    bounds = "SELECT compacted, revision FROM tutti.state";
    get = "SELECT c.key, c.id, c.created, c.lease, (SELECT h.value FROM tutti.history h WHERE h.id = c.id)
        FROM tutti.current c WHERE c.key = $1::bytea";
    list_now = "SELECT s.compacted, s.revision, c.key, c.id, c.created, c.lease,
            (SELECT h.value FROM tutti.history h WHERE h.id = c.id)
        FROM tutti.state s LEFT JOIN LATERAL (
            SELECT key, id, created, lease FROM tutti.current
            WHERE key >= $1::bytea AND key < $2::bytea ORDER BY key LIMIT $3::bigint
        ) c ON true ORDER BY c.key";
    list_at = "SELECT s.compacted, s.revision, n.key, n.id, n.created, n.lease,
            (SELECT h.value FROM tutti.history h WHERE h.id = n.id)
        FROM tutti.state s LEFT JOIN LATERAL (
            SELECT key, id, created, lease FROM (
                SELECT DISTINCT ON (key) key, id, created, lease FROM tutti.history
                WHERE key >= $1::bytea AND key < $2::bytea AND id < $4::bigint ORDER BY key, id DESC
            ) newest
            WHERE created IS NOT NULL ORDER BY key LIMIT $3::bigint
        ) n ON s.compacted <= $5::bigint AND s.revision >= $5::bigint ORDER BY n.key";
    /// Rows of history in order: so many at most, and no further revision once there are so many bytes. The last
    /// column is how many rows there would be but for the bytes.
    changes = "SELECT s.compacted, s.revision, p.key, p.id, p.created, p.lease,
            (SELECT h.value FROM tutti.history h WHERE h.id = p.id), p.found
        FROM tutti.state s LEFT JOIN LATERAL (
            SELECT key, id, created, lease, count(*) OVER () AS found,
                sum(size) OVER (ORDER BY id / 64 RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
                    AS before
            FROM (
                SELECT key, id, created, lease, coalesce(octet_length(value), 0) AS size FROM tutti.history
                WHERE id >= $1::bigint AND id < $2::bigint AND key >= $3::bytea AND key < $4::bytea
                ORDER BY id LIMIT $5::bigint
            ) rows
        ) p ON s.compacted <= $6::bigint AND coalesce(p.before, 0) < $7::bigint ORDER BY p.id";

    keep_alive = concat!(
        "UPDATE tutti.lease SET expires = clock_timestamp() + ttl * interval '1 ms'
         WHERE id = $1::bigint AND (expires > clock_timestamp()
            OR (SELECT at FROM tutti.look) <= clock_timestamp() - ", outage!(), ")"
    );
    /// After an outage every lease has its whole time anew; whoever looks first gives it to them.
    resume = concat!(
        "WITH gate AS (
            UPDATE tutti.look SET at = clock_timestamp() WHERE at <= clock_timestamp() - ", outage!(),
        " RETURNING at)
         UPDATE tutti.lease SET expires = greatest(expires, clock_timestamp() + ttl * interval '1 ms')
         WHERE EXISTS (SELECT FROM gate)"
    );
    /// Notes that somebody looks, at most twice a second, and says whether a lease is due.
    look = concat!(
        "WITH noted AS (
            UPDATE tutti.look SET at = clock_timestamp()
            WHERE at > clock_timestamp() - ", outage!(), " AND at < clock_timestamp() - interval '500 ms'
         )
         SELECT EXISTS (SELECT FROM tutti.lease WHERE expires <= clock_timestamp())"
    );

    /// Where sweeping is, if no other process sweeps.
    sweeping = "SELECT w.swept, s.compacted FROM tutti.sweep w, tutti.state s FOR UPDATE OF w SKIP LOCKED";
    /// Looks at rows up to the oldest state that can be listed, and removes what they supersede.
    sweep = "WITH looked AS (
            SELECT id, key, created FROM tutti.history WHERE id > $1::bigint AND id < $2::bigint ORDER BY id LIMIT $3::bigint
        ), newest AS (
            SELECT key, max(CASE WHEN created IS NULL THEN id + 1 ELSE id END) AS before FROM looked GROUP BY key
        ), gone AS (
            DELETE FROM tutti.history h USING newest n WHERE h.key = n.key AND h.id < n.before
        )
        SELECT count(*), max(id) FROM looked";
    swept = "UPDATE tutti.sweep SET swept = $1::bigint";
    /// Processes that have written nothing for so long ask no more.
    forget_writers = "DELETE FROM tutti.writer WHERE seen < clock_timestamp() - interval '7 days'";
}
