//! What must be unique or counted, in one SQLite database: names, host ids, image references, volumes.
//!
//! A power cut may lose the last rows, but for images: those are written down after their layers are on disk, and waited
//! for. Otherwise the log is not forced to disk at each commit (`synchronous = NORMAL` in WAL mode keeps the database whole
//! all the same). That is what makes a start cost microseconds here and not a disk's turn.

use std::path::Path;

use errdefs::{Error, Kind, Result, Step};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

/// How long one front door waits for another's commit.
const PATIENCE_MS: u32 = 30_000;
/// Bytes in a page. Small, because whoever opens the database first reads its whole log, and a commit writes whole pages.
const PAGE: u32 = 1024;
/// Pages in the log before it is taken into the database, which waits for the disk: when somebody waits for us, and when
/// nobody does.
const LOG_PAGES: u32 = 512;
const LOG_PAGES_AT_LEISURE: u32 = 64;
/// Ids in one container's range: more than the 65,536 that images have by themselves, since directories of people (LDAP, Active
/// Directory) count on from 100,000. There is room for 8,000 containers.
const RANGE: u32 = 1 << 18;
/// Where ranges are: high, away from distributions' and systemd's own. The gap is around 2^31, which many programs
/// cannot count beyond correctly.
const RANGES: &[(u32, u32)] = &[(0x7000_0000, 0x7ff0_0000), (0x8001_0000, 0xf000_0000)];

const SCHEMA: &str = "
    CREATE TABLE container (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, created INTEGER NOT NULL, ids INTEGER UNIQUE
    ) WITHOUT ROWID;
    CREATE TABLE image (
        id TEXT PRIMARY KEY, created INTEGER NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL, foretold TEXT
    ) WITHOUT ROWID;
    CREATE TABLE image_layer (
        image TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE, position INTEGER NOT NULL, layer TEXT NOT NULL,
        PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layer_layer ON image_layer(layer);
    CREATE TABLE reference (
        name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE, manifest TEXT
    ) WITHOUT ROWID;
    CREATE TABLE blob (
        content TEXT NOT NULL, place TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, media TEXT NOT NULL,
        PRIMARY KEY (content, place)
    ) WITHOUT ROWID;
    CREATE TABLE volume (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE volume_use (
        container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, volume TEXT NOT NULL,
        PRIMARY KEY (container, volume)
    ) WITHOUT ROWID;
    CREATE TABLE network (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL,
        next4 INTEGER NOT NULL DEFAULT 0, next6 INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE endpoint (
        container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, network TEXT NOT NULL,
        position INTEGER NOT NULL, settings TEXT NOT NULL, PRIMARY KEY (container, network)
    ) WITHOUT ROWID;
    CREATE INDEX endpoint_network ON endpoint(network);
    CREATE TABLE address (
        network TEXT NOT NULL, version INTEGER NOT NULL, offset INTEGER NOT NULL,
        container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, endpoint TEXT NOT NULL,
        PRIMARY KEY (network, version, offset)
    ) WITHOUT ROWID;
    CREATE INDEX address_container ON address(container);
    CREATE TABLE port (
        protocol TEXT NOT NULL, address TEXT NOT NULL, first INTEGER NOT NULL, inner INTEGER NOT NULL,
        count INTEGER NOT NULL, targets TEXT NOT NULL,
        container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, endpoint TEXT NOT NULL,
        PRIMARY KEY (protocol, address, first)
    ) WITHOUT ROWID;
    CREATE INDEX port_container ON port(container);
";

/// Of names that stand for an index: the images of it that are here, one a platform. What [`SCHEMA`] had first is older.
const VARIANTS: &str = "
    CREATE TABLE variant (
        name TEXT NOT NULL REFERENCES reference(name) ON DELETE CASCADE,
        image TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE,
        platform TEXT NOT NULL, manifest TEXT NOT NULL, whole TEXT NOT NULL, PRIMARY KEY (name, image)
    ) WITHOUT ROWID;
    CREATE INDEX variant_image ON variant(image);
";

/// Who has the users of another container.
const SHARED_IDS: &str = "
    CREATE TABLE shared_ids (
        container TEXT PRIMARY KEY REFERENCES container(id) ON DELETE CASCADE, ids INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX shared_ids_ids ON shared_ids(ids);
";

/// Images that containers have mounted, besides those that they were made of.
const IMAGE_USE: &str = "
    CREATE TABLE image_use (
        container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, image TEXT NOT NULL,
        PRIMARY KEY (container, image)
    ) WITHOUT ROWID;
";

/// What each version of the database has more than the one before.
const VERSIONS: &[&str] = &[SCHEMA, VARIANTS, SHARED_IDS, IMAGE_USE];

/// The database, opened.
pub struct State {
    pub(crate) db: Connection,
}

/// A range of host ids that belongs to one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    /// The container's 0.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Whose users a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// The host's.
    Hosts,
    /// A range that nobody else has.
    Own,
    /// All that there are, of a user who is not root.
    All(IdRange),
    /// Another container's: the range stays taken until the last of them is removed.
    Of(IdRange),
}

/// A container as the database knows it.
#[derive(Clone, Debug)]
pub struct ContainerRow {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// `sha256:HEX`.
    pub image_id: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
}

/// An error of the database, by what it means.
pub(crate) fn database(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Kind::Exhausted,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Kind::Unavailable,
        Some(
            rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::PermissionDenied | rusqlite::ErrorCode::ReadOnly,
        ) => Kind::Forbidden,
        _ => Kind::System,
    };
    Error::caused("use Berth's database", error).kind_is(kind)
}

impl State {
    /// Opens it; makes it the first time.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = Connection::open(path).step_with(|| format!("open the database {}", path.display()));
        let mut db = opened.map_err(|e| e.hint("Berth needs root, or a data directory of your own"))?;
        db.busy_timeout(std::time::Duration::from_millis(PATIENCE_MS.into()))
            .map_err(database)?;
        let version: i64 = db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(database)?;
        // Taking the log in waits for the disk, at closing four times: `take_log_in` says when that is done.
        db.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 0;")
            .map_err(database)?;
        db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(database)?;
        match version {
            0 => Self::make(&mut db)?,
            old if (old as usize) < VERSIONS.len() => Self::extend(&mut db)?,
            current if current as usize == VERSIONS.len() => {}
            newer => {
                return Err(Error::system(format!(
                    "the database is of a newer Berth (version {newer})"
                )));
            }
        }
        let state = State { db };
        state.take_log_in(LOG_PAGES)?;
        Ok(state)
    }

    fn make(db: &mut Connection) -> Result<()> {
        // Counts only before anything is written.
        db.execute_batch(&format!("PRAGMA page_size = {PAGE}"))
            .map_err(database)?;
        // Two first commands at once: WAL is switched on by one of them, the other waits.
        let _: String = db
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(database)?;
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(database)?;
        if Self::add_versions(&transaction)? == 0 {
            crate::network::row::add_predefined(&transaction)?;
        }
        transaction.commit().map_err(database)
    }

    /// What a database of an older version lacks.
    fn extend(db: &mut Connection) -> Result<()> {
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(database)?;
        Self::add_versions(&transaction)?;
        transaction.commit().map_err(database)
    }

    /// Those that are missing; the version that was there. Two may do it at once: the later one finds nothing to do.
    fn add_versions(db: &Connection) -> Result<usize> {
        let version: usize = db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(database)?;
        for sql in VERSIONS.iter().skip(version) {
            db.execute_batch(sql).map_err(database)?;
        }
        db.execute_batch(&format!("PRAGMA user_version = {}", VERSIONS.len().max(version)))
            .map_err(database)?;
        Ok(version)
    }

    /// As [`State::transact`], and on the disk before it returns: for what refers to files that have been waited for.
    pub(crate) fn transact_durably<T>(&self, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.db.execute_batch("PRAGMA synchronous = FULL").map_err(database)?;
        let done = self.transact(run);
        self.db.execute_batch("PRAGMA synchronous = NORMAL").map_err(database)?;
        done
    }

    /// Runs something as one transaction that writes.
    pub(crate) fn transact<T>(&self, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(database)?;
        match run(&self.db) {
            Ok(value) => {
                self.db.execute_batch("COMMIT").map_err(database)?;
                Ok(value)
            }
            Err(error) => {
                let _ = self.db.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// One transaction: the name is unique (`Conflict` in Docker's words), and there is a free range of host ids when
    /// users of its own are asked for (`Exhausted` when none).
    pub fn add_container(&self, row: &ContainerRow, users: Users) -> Result<Option<IdRange>> {
        self.transact(|db| {
            let taken = db.query_row("SELECT id FROM container WHERE name = ?1", [&row.name], |r| r.get::<_, String>(0));
            if let Some(id) = taken.optional().map_err(database)? {
                return Err(Error::conflict(format!(
                    "Conflict. The container name \"/{}\" is already in use by container \"{id}\". You have to remove (or \
                     rename) that container to be able to reuse that name.",
                    row.name
                )));
            }
            let own = if users == Users::Own { Some(free_range(db)?) } else { None };
            db.execute(
                "INSERT INTO container (id, name, image, created, ids) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![row.id, row.name, row.image_id, row.created, own.map(|r| r.first)],
            )
            .map_err(database)?;
            let theirs = match users {
                Users::Of(theirs) => theirs,
                Users::All(all) => return Ok(Some(all)),
                Users::Hosts | Users::Own => return Ok(own),
            };
            db.execute("INSERT INTO shared_ids (container, ids) VALUES (?1, ?2)", params![row.id, theirs.first])
                .map_err(database)?;
            Ok(Some(theirs))
        })
    }

    /// To be called when nobody waits for us.
    pub fn tidy(&self) -> Result<()> {
        self.take_log_in(LOG_PAGES_AT_LEISURE)
    }

    /// Takes a log of more pages into the database and begins it anew, unless others are at work: whoever opens next has
    /// to read it through.
    fn take_log_in(&self, pages: u32) -> Result<()> {
        let path = self.db.path().map(|path| format!("{path}-wal")).unwrap_or_default();
        if std::fs::metadata(path).is_ok_and(|log| log.len() > u64::from(pages * PAGE)) {
            let patience = |ms: u32| self.db.busy_timeout(std::time::Duration::from_millis(ms.into()));
            patience(0).map_err(database)?;
            let taken = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            patience(PATIENCE_MS).and(taken).map_err(database)?;
        }
        Ok(())
    }

    /// Also frees its ids and volume references; fine if it is gone.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        self.db
            .execute("DELETE FROM container WHERE id = ?1", [id])
            .map_err(database)
            .map(drop)
    }

    /// `Conflict` when the name is taken.
    pub fn rename_container(&self, id: &str, new: &str) -> Result<()> {
        let renamed = self
            .db
            .execute("UPDATE container SET name = ?2 WHERE id = ?1", [id, new]);
        renamed.map(drop).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Error::conflict(format!(
                "Error when allocating new name: Conflict. The container name \"/{new}\" is already in use by container \
                 \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                self.find_container(new).map(|row| row.id).unwrap_or_default()
            )),
            _ => database(error),
        })
    }

    /// All, newest first.
    pub fn containers(&self) -> Result<Vec<ContainerRow>> {
        self.rows(
            "SELECT id, name, image, created FROM container ORDER BY created DESC",
            None,
        )
    }

    fn rows(&self, query: &str, parameter: Option<&str>) -> Result<Vec<ContainerRow>> {
        let mut statement = self.db.prepare_cached(query).map_err(database)?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(ContainerRow {
                id: row.get(0)?,
                name: row.get(1)?,
                image_id: row.get(2)?,
                created: row.get(3)?,
            })
        };
        let rows = match parameter {
            None => statement.query_map([], read),
            Some(one) => statement.query_map([one], read),
        };
        rows.and_then(Iterator::collect).map_err(database)
    }

    /// By full id, name, or unique id prefix.
    pub fn find_container(&self, name: &str) -> Result<ContainerRow> {
        let missing = || match name {
            "" => Error::invalid("invalid name or ID supplied: \"\""),
            name => Error::not_found(format!("No such container: {name}")),
        };
        const COLUMNS: &str = "SELECT id, name, image, created FROM container";
        let mut exact = self.rows(
            &format!("{COLUMNS} WHERE name = ?1 OR id = ?1 ORDER BY id = ?1 DESC"),
            Some(name),
        )?;
        if !exact.is_empty() {
            return Ok(exact.swap_remove(0));
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut found = self.rows(
            &format!("{COLUMNS} WHERE id GLOB ?1 LIMIT 2"),
            Some(&format!("{name}*")),
        )?;
        match found.len() {
            0 => Err(missing()),
            1 => Ok(found.swap_remove(0)),
            _ => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {name}"
            ))),
        }
    }

    /// Which volumes a container uses (so that `volume rm` can refuse).
    pub fn use_volumes(&self, container: &str, volumes: &[String]) -> Result<()> {
        self.transact(|db| {
            for volume in volumes {
                db.execute(
                    "INSERT OR IGNORE INTO volume_use (container, volume) VALUES (?1, ?2)",
                    [container, volume],
                )
                .map_err(database)?;
            }
            Ok(())
        })
    }

    /// A container has an image mounted.
    pub fn use_image(&self, container: &str, image: &str) -> Result<()> {
        let query = "INSERT OR IGNORE INTO image_use (container, image) VALUES (?1, ?2)";
        self.db.execute(query, [container, image]).map(drop).map_err(database)
    }

    /// Containers and the images that they are made of, or have mounted.
    pub fn image_users(&self) -> Result<Vec<(String, String)>> {
        let query = "SELECT id, image FROM container UNION SELECT container, image FROM image_use";
        let mut statement = self.db.prepare_cached(query).map_err(database)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).map_err(database)
    }

    /// The containers that use a volume.
    pub fn volume_users(&self, volume: &str) -> Result<Vec<String>> {
        let mut statement = self
            .db
            .prepare("SELECT container FROM volume_use WHERE volume = ?1")
            .map_err(database)?;
        let rows = statement.query_map([volume], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(database)
    }
}

/// The lowest range that no container has.
fn free_range(db: &Connection) -> Result<IdRange> {
    for (first, end) in RANGES {
        let mut from = *first;
        let query = "SELECT COALESCE(
            (SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM container WHERE ids > ?1 - ?3 AND ids < ?1 + ?3)),
            (SELECT MIN(ids) + ?3 FROM container AS c WHERE ids >= ?1 AND ids < ?2
                AND NOT EXISTS (SELECT 1 FROM container WHERE ids > c.ids AND ids < c.ids + 2 * ?3)))";
        loop {
            let found: Option<u32> = db
                .query_row(query, params![from, end, RANGE], |row| row.get(0))
                .map_err(database)?;
            let Some(first) = found.filter(|found| found < end) else {
                break;
            };
            let shared = "SELECT EXISTS (SELECT 1 FROM shared_ids WHERE ids = ?1)";
            if !db.query_row(shared, [first], |row| row.get(0)).map_err(database)? {
                return Ok(IdRange { first, count: RANGE });
            }
            from = first + RANGE;
        }
    }
    Err(
        Error::new(Kind::Exhausted, "no range of user ids is left for another container")
            .hint("remove containers that are not needed, or use --userns=host"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("x.db")).unwrap();
        (dir, state)
    }

    fn row(id: &str, name: &str) -> ContainerRow {
        ContainerRow {
            id: id.into(),
            name: name.into(),
            image_id: "i".into(),
            created: 1,
        }
    }

    #[test]
    fn names_are_unique_and_ids_are_found_by_their_beginnings() {
        let (_dir, state) = state();
        state.add_container(&row("abc1", "web"), Users::Own).unwrap();
        state.add_container(&row("abd2", "db"), Users::Hosts).unwrap();
        let error = state.add_container(&row("x", "web"), Users::Own).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("already in use by container \"abc1\""));
        assert_eq!(state.find_container("abc").unwrap().name, "web");
        assert_eq!(state.find_container("db").unwrap().id, "abd2");
        assert_eq!(state.find_container("ab").unwrap_err().kind(), Kind::Invalid);
        let nameless = state.find_container("").unwrap_err();
        assert_eq!(nameless.to_string(), "invalid name or ID supplied: \"\"");
        for missing in ["zz", "x*", "?bc1"] {
            assert_eq!(
                state.find_container(missing).unwrap_err().to_string(),
                format!("No such container: {missing}")
            );
        }
        assert!(state.rename_container("abd2", "web").is_err());
    }

    #[test]
    fn a_database_of_the_first_version_is_extended() {
        let (dir, state) = state();
        let first = "DROP TABLE variant; DROP TABLE shared_ids; DROP TABLE image_use; PRAGMA user_version = 1;";
        state.db.execute_batch(first).unwrap();
        drop(state);
        let path = dir.path().join("x.db");
        let count = |state: &State| {
            state
                .db
                .query_row("SELECT COUNT(*) FROM variant", [], |r| r.get::<_, i64>(0))
        };
        assert_eq!(count(&State::open(&path).unwrap()).unwrap(), 0);
        assert_eq!(count(&State::open(&path).unwrap()).unwrap(), 0);
    }

    #[test]
    fn ranges_do_not_overlap_and_are_used_again() {
        let (_dir, state) = state();
        let take = |id: &str| state.add_container(&row(id, id), Users::Own).unwrap().unwrap().first;
        let (a, b, c) = (take("a"), take("b"), take("c"));
        assert_eq!((a, b, c), (0x7000_0000, 0x7004_0000, 0x7008_0000));
        let theirs = IdRange { first: b, count: RANGE };
        state.add_container(&row("s", "s"), Users::Of(theirs)).unwrap();
        state.remove_container("b").unwrap();
        assert_ne!(take("later"), b, "somebody shares it");
        state.remove_container("s").unwrap();
        assert_eq!(take("d"), b);
        state.remove_container("a").unwrap();
        assert_eq!(take("e"), a);
        assert_eq!(take("f"), 0x7010_0000);
    }

    #[test]
    fn many_front_doors_at_once_get_different_ranges() {
        let (dir, state) = state();
        drop(state);
        let path = dir.path().join("x.db");
        let mut firsts: Vec<u32> = std::thread::scope(|scope| {
            let one = |n: usize| {
                let path = &path;
                scope.spawn(move || {
                    let state = State::open(path).unwrap();
                    state
                        .add_container(&row(&format!("{n}"), &format!("n{n}")), Users::Own)
                        .unwrap()
                        .unwrap()
                        .first
                })
            };
            let threads: Vec<_> = (0..16).map(one).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 16);
    }
}
