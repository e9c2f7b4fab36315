//! A neighbourhood on a virtual clock: real meters, real load shapes, seeded faults and thieves with ground truth.
