//! What is wrong with an input, where, and what to do about it.

/// A fault of one input file. The message says what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: {message}")]
pub struct Fault {
    /// The file as the case or the caller names it.
    pub file: String,
    /// The place in it: a field (`charges[2].rates[0].max`), a row (`row 17`), a bill (`bill jan`).
    pub place: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl Fault {
    /// A fault of a place.
    pub fn new(file: impl Into<String>, place: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { file: file.into(), place: place.into(), message: message.into() }
    }
}

/// A fault of rating, before it is known in which file of the caller it lies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// The tariff cannot be applied to this customer or this period.
    #[error("{0}")]
    Tariff(String),
    /// The readings do not hold what the tariff asks for.
    #[error("{0}")]
    Readings(String),
    /// The customer's or the case's own fields.
    #[error("{0}")]
    Case(String),
}

impl RatingError {
    /// The fault in the file that it belongs to.
    pub fn in_files(self, tariff: &str, readings: &str, case: &str, place: &str) -> Fault {
        let (file, message) = match self {
            RatingError::Tariff(message) => (tariff, message),
            RatingError::Readings(message) => (readings, message),
            RatingError::Case(message) => (case, message),
        };
        Fault::new(file, place, message)
    }
}
