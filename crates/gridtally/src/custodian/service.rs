//! A custodian on its directory: every event is in the journal, synchronised, before anything is done about it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use metering::MeterId;
use privacy::{
    Custodian, Decision, Event,
    custodian::Enrolment,
    escrow::Secrets,
    exchange,
    hex::Hex,
    journal,
    log::{Checkpoint, Signed, tiles},
    merkle,
    orders::{ErasureOrder, GroupOrder},
    policy::Policy,
    query::{Answer, Named, Request},
};

use super::files::{key_file, random, read_key, write_whole};
use crate::commands::CommandError;

/// Epochs of a meter's key that are derived in advance: sixteen years of quarters.
const EPOCHS: usize = 64;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The policy says no; it is in the journal and in the log.
    #[error("{0}")]
    Refused(String),
    /// The disk or something else failed: nothing was released.
    #[error("{0}")]
    Failed(String),
}

/// A custodian that runs.
pub struct Service {
    folder: PathBuf,
    custodian: Custodian,
    journal: File,
    /// Bytes of the journal that are whole.
    written: u64,
    log_key: SigningKey,
    origin: String,
    entries: Vec<Vec<u8>>,
    /// A write that failed half way: nothing more is done until the next start, which reads what the disk holds.
    is_broken: bool,
    _lock: File,
}

impl Service {
    /// Opens a directory; the policy must lie in it.
    ///
    /// # Errors
    /// A policy that cannot be read, a damaged journal, a directory in use.
    pub fn open(folder: &Path) -> Result<Self, CommandError> {
        fs::create_dir_all(folder.join("keys"))?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join("lock"))?;
        lock.try_lock().map_err(|_| format!("{} is in use by another custodian", folder.display()))?;
        let path = folder.join("policy.toml");
        let text = fs::read_to_string(&path).map_err(|e| {
            format!("cannot read {}: {e}; docs/howto/custodian.md shows how a policy is written", path.display())
        })?;
        let policy: Policy = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let journal_path = folder.join("journal");
        let (events, whole) = read_journal(&journal_path)?;
        for name in ["noise.key", "log.key"].map(|name| folder.join(name)) {
            // another noise key would draw other noise for a question that was answered, another log key would begin another log
            if !events.is_empty() && !name.exists() {
                return Err(format!("{} is missing: restore it from its backup or from escrow", name.display()).into());
            }
        }
        let custodian = Custodian::new(policy, key_file(&folder.join("noise.key"))?)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let journal = OpenOptions::new().write(true).create(true).truncate(false).open(&journal_path)?;
        journal.set_len(whole as u64)?;
        journal.sync_all()?;
        let log_key = SigningKey::from_bytes(&key_file(&folder.join("log.key"))?);
        let origin = format!("gridtally.custodian/{}", &Hex(log_key.verifying_key().to_bytes()).to_string()[..16]);
        let entries: Vec<Vec<u8>> = events.iter().map(journal::public).collect();
        check_reach(&folder.join("log"), &entries)?;
        let mut service = Self {
            folder: folder.to_owned(),
            custodian,
            journal,
            written: whole as u64,
            log_key,
            origin,
            entries,
            is_broken: false,
            _lock: lock,
        };
        for event in &events {
            service.custodian.apply(event);
        }
        service.bury_erased()?;
        for event in &events {
            if let Event::Enrolled { enrolment, .. } = event {
                service.load_keys(enrolment)?;
            }
        }
        service.publish()?;
        Ok(service)
    }

    /// Files of erased meters that came back are removed again.
    fn bury_erased(&self) -> Result<(), CommandError> {
        for meter in self.custodian.state().erased() {
            remove_key(&self.key_path(*meter))?;
        }
        Ok(())
    }

    fn key_path(&self, meter: MeterId) -> PathBuf {
        self.folder.join("keys").join(meter.as_str())
    }

    fn load_keys(&mut self, enrolment: &Enrolment) -> Result<(), CommandError> {
        let (meter, path) = (enrolment.meter, self.key_path(enrolment.meter));
        if self.custodian.state().erased().contains(&meter) {
            return Ok(());
        }
        let secret = read_key(&path)?;
        let first = exchange::mask_key(&secret, &enrolment.public_key, meter, privacy::mask::FIRST_EPOCH)
            .ok_or_else(|| format!("meter {meter} has a public key that gives no secret"))?;
        for (epoch, key) in exchange::epochs(first).take(EPOCHS) {
            self.custodian.insert_key(meter, epoch, key);
        }
        Ok(())
    }

    /// Writes an event down and takes it in; what follows from it may be done only afterwards.
    fn commit(&mut self, event: &Event) -> Result<(), ServiceError> {
        self.write(event)?;
        self.custodian.apply(event);
        Ok(())
    }

    /// Writes an event down, to be taken in at once.
    fn write(&mut self, event: &Event) -> Result<(), ServiceError> {
        let failed = |e: std::io::Error| ServiceError::Failed(format!("the journal cannot be written: {e}"));
        if self.is_broken {
            return Err(ServiceError::Failed("the journal could not be written; start the custodian again".into()));
        }
        let line = journal::line(event);
        self.is_broken = true;
        std::io::Seek::seek(&mut self.journal, std::io::SeekFrom::Start(self.written)).map_err(failed)?;
        self.journal.write_all(&line).and_then(|()| self.journal.sync_data()).map_err(failed)?;
        self.is_broken = false;
        self.written += line.len() as u64;
        self.entries.push(journal::public(event));
        Ok(())
    }

    /// Brings the log's files up to the journal and signs a head, if there is something new. Tiles come first, the head last.
    ///
    /// # Errors
    /// The disk.
    pub fn publish(&mut self) -> Result<(), CommandError> {
        let log = self.folder.join("log");
        let before = fs::read_to_string(log.join("checkpoint")).ok().and_then(|text| Signed::parse(&text).ok());
        let size = self.entries.len() as u64;
        // a directory that came back from escrow has a head and no tiles
        let before = before.filter(|_| log.join("tile").is_dir());
        if size == 0 || before.as_ref().is_some_and(|head| head.checkpoint.size == size) {
            return Ok(());
        }
        let old = before.map_or(0, |head| usize::try_from(head.checkpoint.size).unwrap_or(0)).min(self.entries.len());
        for (path, content) in tiles::files(&self.entries, old) {
            write_whole(&log.join(path), &content)?;
        }
        let hashes: Vec<merkle::Hash> = self.entries.iter().map(|entry| merkle::leaf(entry)).collect();
        let head = Checkpoint { origin: self.origin.clone(), size, root: merkle::root(&hashes) }.sign(&self.log_key);
        write_whole(&log.join("heads").join(size.to_string()), head.to_text().as_bytes())?;
        write_whole(&log.join("checkpoint"), head.to_text().as_bytes())?;
        Ok(())
    }

    /// Decides and answers.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn ask(&mut self, request: &Request, now: i64) -> Result<Answer, ServiceError> {
        let named = Named::new(request);
        if let Decision::Commit(event) = self.custodian.decide_named(&named, now) {
            self.write(&event)?;
            self.custodian.apply_named(&event, &named);
            if let Event::Refused { reason, .. } = event {
                return Err(ServiceError::Refused(reason));
            }
        }
        self.custodian.answer_named(&named).map_err(|why| ServiceError::Refused(why.to_string()))
    }

    /// Enrols a meter and gives the public half that the meter needs. The same enrolment again gives the same half.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn enrol(&mut self, enrolment: &Enrolment, now: i64) -> Result<Hex<32>, ServiceError> {
        let failed = |e: CommandError| ServiceError::Failed(e.to_string());
        let path = self.key_path(enrolment.meter);
        let event = match self.custodian.enrol(enrolment.clone(), now) {
            Ok(event) => event,
            Err(_) if path.exists() && self.custodian.state().knows(enrolment) => {
                let secret = read_key(&path).map_err(failed)?;
                return Ok(exchange::public_key(&secret));
            }
            Err(why) => return Err(ServiceError::Refused(why.to_string())),
        };
        // a file without its line in the journal is left from a crash: it was told to nobody
        let secret = random().map_err(failed)?;
        write_whole(&path, &secret)
            .map_err(|e| ServiceError::Failed(format!("cannot write {}: {e}", path.display())))?;
        self.commit(&event)?;
        self.load_keys(enrolment).map_err(failed)?;
        Ok(exchange::public_key(&secret))
    }

    /// Gives a group other members from the next day on.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn regroup(&mut self, order: &GroupOrder, now: i64) -> Result<(), ServiceError> {
        let event = self.custodian.regroup(order, now).map_err(|e| ServiceError::Refused(e.to_string()))?;
        self.commit(&event)
    }

    /// Erases a meter's keys for good.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn erase(&mut self, order: &ErasureOrder, now: i64) -> Result<(), ServiceError> {
        let event = self.custodian.erase(order, now).map_err(|e| ServiceError::Refused(e.to_string()))?;
        if let Some(event) = event {
            self.commit(&event)?;
        }
        remove_key(&self.key_path(order.meter)).map_err(|e| ServiceError::Failed(e.to_string()))
    }

    /// The custodian, to look at.
    pub fn custodian(&self) -> &Custodian {
        &self.custodian
    }

    /// Everything secret, for its escrow.
    ///
    /// # Errors
    /// A key's file that cannot be read.
    pub fn secrets(&mut self) -> Result<Secrets, CommandError> {
        self.publish()?;
        let mut meters = BTreeMap::new();
        let enrolled = self.custodian.state().enrolled().filter(|m| !self.custodian.state().erased().contains(m));
        for meter in enrolled.collect::<Vec<_>>() {
            meters.insert(meter, Hex(read_key(&self.key_path(meter))?));
        }
        Ok(Secrets {
            noise_key: Hex(read_key(&self.folder.join("noise.key"))?),
            log_key: Hex(self.log_key.to_bytes()),
            meters,
            head: fs::read_to_string(self.log_folder().join("checkpoint")).ok(),
        })
    }

    /// Verifies the log's heads.
    pub fn log_public_key(&self) -> Hex<32> {
        Hex(self.log_key.verifying_key().to_bytes())
    }

    /// Folder of the public log.
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// The journal's events, and how many of its bytes are whole.
fn read_journal(path: &Path) -> Result<(Vec<Event>, usize), CommandError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(format!("cannot read {}: {e}", path.display()).into()),
    };
    journal::read(&bytes).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// That the journal reaches as far as the log's head and says the same: an older one from a backup would release cells again and spend
/// budgets again. The log is written after the journal, so it is never ahead by itself.
fn check_reach(log: &Path, entries: &[Vec<u8>]) -> Result<(), CommandError> {
    let Ok(text) = fs::read_to_string(log.join("checkpoint")) else { return Ok(()) };
    let head = Signed::parse(&text).map_err(|e| format!("{}: {e}", log.join("checkpoint").display()))?.checkpoint;
    let size = usize::try_from(head.size)?;
    let hashes: Vec<merkle::Hash> = entries.iter().take(size).map(|entry| merkle::leaf(entry)).collect();
    if hashes.len() < size {
        return Err(format!(
            "the journal has {} lines and the log's head says {size}: the journal is older than the log; restore the newest one",
            hashes.len()
        )
        .into());
    }
    if merkle::root(&hashes) == head.root {
        return Ok(());
    }
    Err("the journal is not the one that the log was made from; restore the right one, or ask who altered it".into())
}

/// Overwrites and removes a key's file.
fn remove_key(path: &Path) -> Result<(), CommandError> {
    if path.exists() {
        write_whole(path, &[0; 32]).and_then(|()| fs::remove_file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
