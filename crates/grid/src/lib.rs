//! Network model, power flow, state estimation, lost measurements.
