//! Everything that can go wrong between a folder of files and an estimate, named after the element at fault.

/// The error of this crate. Every text names the bus, branch, load, measurement or file it is about.
#[derive(Debug, thiserror::Error)]
pub enum GridError {
    #[error("cannot read {path}: {reason}")]
    File { path: String, reason: String },
    #[error("{path}, line {line}: {reason}")]
    Row { path: String, line: u64, reason: String },
    #[error("{element}: {reason}")]
    Element { element: String, reason: String },
    #[error("the network has no slack bus: mark the bus that feeds it with type 'slack'")]
    NoSlack,
    #[error("the network has {count} slack buses (bus {first} and bus {second}): exactly one may feed it")]
    ManySlacks { count: usize, first: u32, second: u32 },
    #[error(
        "{count} buses are not connected to the slack bus, the first is bus {bus}: an open switch or a missing branch?"
    )]
    Island { bus: u32, count: usize },
    #[error(
        "the power flow did not converge in {iterations} iterations: worst bus {bus}, voltage {vm_pu:.4} pu, mismatch \
         {mismatch_pu:.2e} pu; the load is probably more than the network can carry"
    )]
    NotConverged { bus: String, vm_pu: f64, mismatch_pu: f64, iterations: usize },
    #[error("the network equations are singular at bus {bus}: is it connected by finite impedances only?")]
    Singular { bus: String },
    #[error(
        "bus {bus} is not observable from the measurements: add a measurement of its injection (a pseudo-measurement will do)"
    )]
    Unobservable { bus: u32 },
    #[error(
        "the estimation did not converge in {iterations} iterations (last step {step_pu:.2e} pu at bus {bus}): check measurement {worst}"
    )]
    EstimateNotConverged { bus: u32, step_pu: f64, iterations: usize, worst: String },
    #[error("{what} has {found} values, {expected} are needed")]
    Length { what: &'static str, found: usize, expected: usize },
}

impl GridError {
    /// An error about one named element.
    pub fn element(element: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Element { element: element.into(), reason: reason.into() }
    }
}
