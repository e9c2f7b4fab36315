//! Explanations on small synthetic zones.
