//! An invocation counter that survives a restart: the next limit is durable before any counter below it is used.

use std::{fs, io::Write, path::PathBuf};

use telegrams::dlms::security::OwnCounter;

/// Where the limit is kept; without a file nothing is ciphered and nothing is kept.
pub struct KeptCounter {
    /// The file.
    pub file: Option<PathBuf>,
}

impl KeptCounter {
    /// The counter as the file left it.
    pub fn counter(&self) -> Result<OwnCounter, String> {
        let text = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let limit = match &text {
            Some(text) => text.trim().parse().map_err(|_| "the counter file holds no number".to_owned())?,
            None => 0,
        };
        Ok(OwnCounter::restarted(limit))
    }

    /// Keeps a further limit durably when the counter has fewer than two left.
    pub fn refill(&self, counter: &mut OwnCounter) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut probe = *counter;
        if probe.take().is_some() && probe.take().is_some() {
            return Ok(());
        }
        let limit = counter.reserve().ok_or("all invocation counters are used up: the keys must be changed")?;
        let write = || {
            let mut kept = fs::File::create(file)?;
            kept.write_all(limit.to_string().as_bytes())?;
            kept.sync_all()
        };
        write().map_err(|why| format!("{}: {why}", file.display()))?;
        counter.kept(limit);
        Ok(())
    }
}
