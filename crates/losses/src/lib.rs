//! Energy balance, indicators, localisation, pattern models, evidence, the case and its states, hotspots.
