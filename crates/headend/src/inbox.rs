//! Texts as files: gammu-smsd (service `files`, its `inboxpath`) or another gateway puts each text that came into a file of a
//! folder, and passes over that folder take them.
//!
//! Nothing is deleted: a file goes to the subfolder `taken` once its text is durable, to `refused` when it is none of ours, and
//! stays where it is while the pipeline does not store. Gateways write in place, so a file that is no genuine text is refused
//! only when a second pass finds it unchanged; a genuine one is whole, its code says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Metadata,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::fs;

use crate::{
    Headend,
    counters::Counting,
    text::{TextOutcome, TextRefused},
};

/// Files taken in one pass over an inbox.
pub const FILES_PER_PASS_MAX: usize = 500;
/// A file larger than this is no text.
const FILE_BYTES_MAX: u64 = 4_096;
/// Files of one name that can lie in `taken` or `refused`.
const SAME_NAMES_MAX: u32 = 1_000;
/// Where texts go that are durable.
const TAKEN: &str = "taken";
/// Where files go that are no genuine text of an enrolled meter.
const REFUSED: &str = "refused";

/// A folder of texts, and what a pass over it must remember until the next.
#[derive(Debug)]
pub struct Inbox {
    folder: PathBuf,
    /// Files that were not genuine in the last pass, as they were.
    suspects: BTreeMap<PathBuf, Seen>,
}

type Seen = (u64, Option<SystemTime>);

/// What one pass over an inbox did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxPass {
    /// Texts taken, with their outcomes.
    pub taken: Vec<TextOutcome>,
    /// Files that were none of ours or not genuine, with the reason.
    pub refused: Vec<(String, String)>,
    /// Files left for the next pass.
    pub left: usize,
}

/// What is to become of a file.
enum Fate {
    Taken(TextOutcome),
    Refused(String),
    Stays,
}

impl Inbox {
    /// An inbox in this folder; nothing is looked at yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), suspects: BTreeMap::new() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The first files by name, and how many more there are.
    async fn files(&self) -> io::Result<(BTreeSet<PathBuf>, usize)> {
        let (mut files, mut more) = (BTreeSet::new(), 0);
        let mut entries = fs::read_dir(&self.folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            if !is_message(&entry.path()) || !entry.file_type().await?.is_file() {
                continue;
            }
            files.insert(entry.path());
            if files.len() > FILES_PER_PASS_MAX {
                files.pop_last();
                more += 1;
            }
        }
        Ok((files, more))
    }

    /// Moves a file to a subfolder, under its own name or, when that is taken, with a number behind it.
    async fn put_aside(&self, file: &Path, place: &str) -> io::Result<()> {
        let folder = self.folder.join(place);
        fs::create_dir_all(&folder).await?;
        let name = name_of(file);
        for number in 0..SAME_NAMES_MAX {
            let to = folder.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
            if !fs::try_exists(&to).await? {
                return fs::rename(file, to).await;
            }
        }
        Err(io::Error::other(format!("{} holds {SAME_NAMES_MAX} files named {name}", folder.display())))
    }
}

impl Headend {
    /// One pass over an inbox.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file not be moved. What had been taken is durable; a text that is offered again is
    /// found to be a duplicate.
    pub async fn take_inbox(&self, inbox: &mut Inbox) -> io::Result<InboxPass> {
        let counting = &self.shared.counting;
        let result = self.pass(inbox).await;
        match &result {
            Ok(pass) => Counting::add(&counting.texts_refused, pass.refused.len()),
            Err(_) => Counting::one(&counting.inbox_failures),
        }
        result
    }

    async fn pass(&self, inbox: &mut Inbox) -> io::Result<InboxPass> {
        let (files, left) = inbox.files().await?;
        let mut pass = InboxPass { left, ..InboxPass::default() };
        let mut suspects = std::mem::take(&mut inbox.suspects);
        for path in files {
            let before = suspects.remove(&path);
            let seen = match fs::metadata(&path).await {
                Ok(about) => seen(&about),
                // taken away by somebody else
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match self.fate(&path, seen.0).await {
                Fate::Taken(outcome) => {
                    inbox.put_aside(&path, TAKEN).await?;
                    pass.taken.push(outcome);
                }
                Fate::Refused(why) if before == Some(seen) => {
                    inbox.put_aside(&path, REFUSED).await?;
                    pass.refused.push((name_of(&path), why));
                }
                Fate::Refused(_) => {
                    inbox.suspects.insert(path, seen);
                    pass.left += 1;
                }
                Fate::Stays => pass.left += 1,
            }
        }
        Ok(pass)
    }

    async fn fate(&self, path: &Path, bytes: u64) -> Fate {
        if path.extension().is_none_or(|extension| extension != "txt") {
            return Fate::Refused("not a plain text: let the gateway write texts as .txt".into());
        }
        if bytes > FILE_BYTES_MAX {
            return Fate::Refused(format!("{bytes} bytes are no text"));
        }
        let line = match fs::read(path).await {
            Ok(bytes) => decoded(&bytes),
            Err(error) => return Fate::Refused(format!("cannot be read: {error}")),
        };
        match self.take_text(&line).await {
            Ok(outcome) => Fate::Taken(outcome),
            Err(TextRefused::NotStored) => Fate::Stays,
            Err(why) => Fate::Refused(why.to_string()),
        }
    }
}

/// Whether a file of the inbox is a message: as text, or in one of gammu's other two forms, which are refused.
fn is_message(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["txt", "bin", "smsbackup"].iter().any(|known| extension == *known))
}

fn seen(about: &Metadata) -> Seen {
    (about.len(), about.modified().ok())
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The text of a file: UTF-16 behind a byte-order mark (gammu's own default), else UTF-8. What is neither becomes a line that no
/// code fits.
fn decoded(bytes: &[u8]) -> String {
    let units = |of: fn([u8; 2]) -> u16| -> Vec<u16> {
        bytes[2..].chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect()
    };
    match bytes {
        [0xfe, 0xff, ..] => String::from_utf16_lossy(&units(u16::from_be_bytes)),
        [0xff, 0xfe, ..] => String::from_utf16_lossy(&units(u16::from_le_bytes)),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn both_alphabets_of_a_gateway_are_read() {
        let utf16 = |mark: [u8; 2], of: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.into_iter().chain("GT1 R".encode_utf16().flat_map(of)).collect()
        };
        for bytes in [b"GT1 R".to_vec(), utf16([0xfe, 0xff], u16::to_be_bytes), utf16([0xff, 0xfe], u16::to_le_bytes)] {
            assert_eq!(decoded(&bytes), "GT1 R");
        }
        assert_eq!(decoded(&[0xfe, 0xff]), "");
        assert_eq!(decoded(&[0xfe, 0xff, 0x00]), "");
        assert_eq!(decoded(&[0xc3]), "\u{fffd}");
    }
}
