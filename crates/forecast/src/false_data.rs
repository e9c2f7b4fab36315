//! False data in a network's measurements: a sensor that is wrong, and an injection made so that the estimate still fits.
//!
//! Two witnesses. The others' measurements: the normalised residual of `grid`'s estimator, which sees one wrong sensor where the rest is
//! redundant, and is blind to errors that are a state of the network themselves (`a = H c`, Liu, Ning, Reiter 2009). And the forecasts, which know
//! nothing of the measurements: the innovation `(z − forecast) / √(σ² + σ_f²)`. A coordinated injection must move loads away from what was
//! forecast; it is seen when it moves them by several of the forecast's deviations, and hides below that. That is the limit of it.

use grid::GridError;
use grid::estimate::Estimator;
use grid::quality::chi_square_tail;

/// What a forecast says about a measurement, pu.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Witness {
    pub expected_pu: f64,
    /// Standard deviation of the forecast's error: the 50 % band's width by 1.349.
    pub sigma_pu: f64,
}

/// What speaks against one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubt {
    /// Against the other measurements, in deviations; `None` when nothing else checks it.
    pub residual: Option<f64>,
    /// Against the forecast, in deviations, with its sign; `None` without a forecast.
    pub innovation: Option<f64>,
}

impl Doubt {
    /// The larger of the two: what a list is sorted by.
    pub fn size(&self) -> f64 {
        self.residual.unwrap_or(0.0).max(self.innovation.map_or(0.0, f64::abs))
    }
}

/// The judgement of one set of measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// By measurement.
    pub doubts: Vec<Doubt>,
    /// Probability of residuals so large from honest errors.
    pub residual_p: f64,
    /// Probability of innovations so large from honest forecasts; `None` without any.
    pub innovation_p: Option<f64>,
}

/// What it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Honest,
    /// One measurement contradicts the others.
    Sensor(usize),
    /// The measurements agree with each other and not with the forecasts: a coordinated injection, or a day nobody expected. Another witness is needed.
    AgainstForecasts,
}

/// Residuals above this name a sensor; three deviations are common among hundreds of measurements.
const SENSOR: f64 = 4.0;
/// Chance below which all innovations together are no accident.
const CHANCE: f64 = 1e-4;

/// Estimates and compares; `witnesses` by measurement.
///
/// # Errors
/// Those of the estimation; witnesses of another number than measurements.
pub fn inspect(estimator: &Estimator, witnesses: &[Option<Witness>]) -> Result<Inspection, GridError> {
    let measurements = estimator.measurements();
    if witnesses.len() != measurements.len() {
        return Err(GridError::Length { what: "witnesses", found: witnesses.len(), expected: measurements.len() });
    }
    let assessed = estimator.assess(&estimator.estimate()?)?;
    let innovation = |at: usize| {
        witnesses[at].map(|w| (measurements[at].value_pu - w.expected_pu) / measurements[at].sigma_pu.hypot(w.sigma_pu))
    };
    let doubts: Vec<Doubt> = (0..measurements.len())
        .map(|at| Doubt { residual: assessed.normalised_residuals[at], innovation: innovation(at) })
        .collect();
    let seen: Vec<f64> = doubts.iter().filter_map(|d| d.innovation).collect();
    let innovation_p = (!seen.is_empty()).then(|| chi_square_tail(seen.iter().map(|i| i * i).sum(), seen.len()));
    Ok(Inspection { doubts, residual_p: assessed.p_value, innovation_p })
}

impl Inspection {
    /// The judgement; a wrong sensor is told before anything else, because it also spoils the innovations.
    pub fn verdict(&self) -> Verdict {
        let residual = |d: &Doubt| d.residual.unwrap_or(0.0);
        let worst =
            (0..self.doubts.len()).max_by(|a, b| residual(&self.doubts[*a]).total_cmp(&residual(&self.doubts[*b])));
        match worst {
            Some(at) if residual(&self.doubts[at]) > SENSOR => Verdict::Sensor(at),
            _ if self.innovation_p.is_some_and(|p| p < CHANCE) => Verdict::AgainstForecasts,
            _ => Verdict::Honest,
        }
    }
}
