CREATE TABLE network_version (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    valid_from BIGINT NOT NULL,
    imported_at BIGINT NOT NULL,
    imported_by TEXT NOT NULL,
    base_mva REAL NOT NULL,
    frequency_hz REAL NOT NULL,
    UNIQUE (name, valid_from)
);

CREATE TABLE network_bus (
    network BIGINT NOT NULL REFERENCES network_version (id),
    place BIGINT NOT NULL,
    bus BIGINT NOT NULL,
    name TEXT NOT NULL,
    vn_kv REAL NOT NULL,
    slack_vm_pu REAL,
    slack_va_deg REAL,
    gs_mw REAL NOT NULL,
    bs_mvar REAL NOT NULL,
    PRIMARY KEY (network, place)
) WITHOUT ROWID;

CREATE TABLE network_branch (
    network BIGINT NOT NULL REFERENCES network_version (id),
    place BIGINT NOT NULL,
    branch BIGINT NOT NULL,
    from_bus BIGINT NOT NULL,
    to_bus BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    r_pu REAL NOT NULL,
    x_pu REAL NOT NULL,
    g_pu REAL NOT NULL,
    b_pu REAL NOT NULL,
    tap REAL NOT NULL,
    shift_deg REAL NOT NULL,
    rate_mva REAL,
    length_km REAL,
    PRIMARY KEY (network, place)
) WITHOUT ROWID;

CREATE TABLE network_load (
    network BIGINT NOT NULL REFERENCES network_version (id),
    place BIGINT NOT NULL,
    load BIGINT NOT NULL,
    bus BIGINT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    p_mw REAL NOT NULL,
    q_mvar REAL NOT NULL,
    profile TEXT NOT NULL,
    peak_p_mw REAL,
    peak_q_mvar REAL,
    model TEXT NOT NULL,
    PRIMARY KEY (network, place)
) WITHOUT ROWID;

CREATE TABLE network_usage_point (
    network BIGINT NOT NULL REFERENCES network_version (id),
    place BIGINT NOT NULL,
    usage_point TEXT NOT NULL,
    load BIGINT,
    bus BIGINT NOT NULL,
    phase BIGINT,
    valid_from TEXT NOT NULL,
    PRIMARY KEY (network, place)
) WITHOUT ROWID;
