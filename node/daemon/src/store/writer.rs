//! The store's own thread: the only place that touches the file once it is open.
//!
//! Writes that wait together share one transaction and so one fsync (group commit): a hundred
//! concurrent commands cost little more than one. When a commit fails all of its writes fail. redb
//! refuses a database after an I/O error, so it is closed and opened again before the next request,
//! for as long as it takes: a full disk costs the writes made while it was full, nothing else.

use membership::record::Record;
use membership::time::Wall;
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::{mpsc, oneshot};

use super::format::{self, COUNTERS, INCARNATION_COUNTER, META, RECORDS, Row};
use super::open::{Opened, open_checked};
use super::{Damaged, WriteError};

/// The most changes in one transaction. More wait for the next one.
const GROUP: usize = 128;
/// A transaction is closed when it has taken this much.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

type Reply<T> = oneshot::Sender<Result<T, WriteError>>;

#[derive(Debug)]
pub(super) enum Change {
    Records(Vec<Row>),
    /// Deletes what is exactly so under its key.
    Forget(Vec<Row>),
    Meta(String, Vec<u8>),
    DrawIncarnation(Wall),
}

#[derive(Debug)]
pub(super) enum Request {
    /// Answered with the number drawn, or 0.
    Write {
        change: Change,
        reply: Reply<u64>,
    },
    LoadRecords {
        reply: Reply<(Vec<Record>, Vec<Damaged>)>,
    },
    Meta {
        name: String,
        reply: Reply<Option<Vec<u8>>>,
    },
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Records(rows) | Self::Forget(rows) => rows.iter().map(|r| r.value.len()).sum(),
            Self::Meta(_, value) => value.len(),
            Self::DrawIncarnation(_) => 0,
        }
    }
}

/// Serves requests until the queue is closed and empty.
pub(super) fn run(mut store: Opened, mut requests: mpsc::Receiver<Request>) {
    let mut next = requests.blocking_recv();
    while let Some(request) = next.take() {
        match request {
            Request::Write { change, reply } => {
                let mut bytes = change.bytes();
                let mut group = vec![(change, reply)];
                while group.len() < GROUP && bytes < GROUP_BYTES {
                    match requests.try_recv() {
                        Ok(Request::Write { change, reply }) => {
                            bytes += change.bytes();
                            group.push((change, reply));
                        }
                        // A read waits its turn, so that it sees what was written before it.
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                store.write_group(group);
            }
            Request::LoadRecords { reply } => drop(reply.send(store.read(read_records))),
            Request::Meta { name, reply } => {
                drop(reply.send(store.read(|database| read_meta(database, &name))));
            }
        }
        if next.is_none() {
            next = requests.blocking_recv();
        }
    }
}

impl Opened {
    /// The database, opened again if the last commit failed.
    fn usable(&mut self) -> Result<&Database, WriteError> {
        if self.database.is_none() {
            let reopened =
                open_checked(&self.path).map_err(|e| WriteError::from_open(&self.path, e))?;
            self.database = Some(reopened);
        }
        self.database.as_ref().ok_or(WriteError::Closed)
    }

    fn failed(&mut self, error: redb::Error) -> WriteError {
        // Dropping it releases redb's own lock, so that the next request can open it again.
        self.database = None;
        WriteError::from_redb(&self.path, error)
    }

    fn write_group(&mut self, group: Vec<(Change, Reply<u64>)>) {
        let result = match self.usable() {
            Ok(database) => commit(database, &group).map_err(|e| self.failed(e)),
            Err(error) => Err(error),
        };
        match result {
            Ok(drawn) => {
                for ((_, reply), number) in group.into_iter().zip(drawn) {
                    // Whoever asked may have gone; it is stored all the same.
                    let _ = reply.send(Ok(number));
                }
            }
            Err(error) => {
                for (_, reply) in group {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, WriteError> {
        let result = read(self.usable()?);
        result.map_err(|e| self.failed(e))
    }
}

fn commit(database: &Database, group: &[(Change, Reply<u64>)]) -> Result<Vec<u64>, redb::Error> {
    // redb's default durability is Immediate: commit returns after fsync.
    let transaction = database.begin_write()?;
    let mut drawn = Vec::with_capacity(group.len());
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        let mut counters = transaction.open_table(COUNTERS)?;
        for (change, _) in group {
            let mut number = 0;
            match change {
                Change::Records(rows) => {
                    for row in rows {
                        records.insert(row.key.as_slice(), row.value.as_slice())?;
                    }
                }
                Change::Forget(rows) => {
                    for Row { key, value } in rows {
                        let same = records
                            .get(key.as_slice())?
                            .is_some_and(|held| held.value() == value.as_slice());
                        if same {
                            records.remove(key.as_slice())?;
                        }
                    }
                }
                Change::Meta(name, value) => {
                    meta.insert(name.as_str(), value.as_slice())?;
                }
                Change::DrawIncarnation(now) => {
                    let last = counters.get(INCARNATION_COUNTER)?.map_or(0, |v| v.value());
                    number = last.saturating_add(1).max(now.0);
                    counters.insert(INCARNATION_COUNTER, number)?;
                }
            }
            drawn.push(number);
        }
    }
    transaction.commit()?;
    Ok(drawn)
}

fn read_records(database: &Database) -> Result<(Vec<Record>, Vec<Damaged>), redb::Error> {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for row in database.begin_read()?.open_table(RECORDS)?.iter()? {
        let (key, value) = row?;
        match format::read_record(key.value(), value.value()) {
            Ok(record) => records.push(record),
            Err(one) => damaged.push(one),
        }
    }
    Ok((records, damaged))
}

fn read_meta(database: &Database, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(META)?;
    Ok(table.get(name)?.map(|value| value.value().to_vec()))
}
