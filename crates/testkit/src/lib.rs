//! Test equipment: simulator, oracles, image builders.
