//! Samples to quantities: rms, power, energy, frequency, harmonics, flicker, dips; power-quality evaluation.
