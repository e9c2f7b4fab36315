//! Configuration, pipeline, jobs, roles and the command line: from the meter to the case in one binary.
