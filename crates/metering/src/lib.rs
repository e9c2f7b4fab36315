//! The vocabulary: ids, units, readings, quality, events, controls, OBIS codes and device frames.
