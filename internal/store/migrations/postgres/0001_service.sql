-- +goose Up
CREATE TABLE accounts (
    id                  text PRIMARY KEY,
    name                text NOT NULL,
    min_password_length integer NOT NULL DEFAULT 0, -- 0: the deployment's
    created_at          timestamptz NOT NULL
);

CREATE TABLE users (
    id                   text PRIMARY KEY,
    account_id           text NOT NULL REFERENCES accounts (id),
    team                 text NOT NULL,
    role                 text NOT NULL CHECK (role IN ('agent', 'administrator')),
    also_manages         text NOT NULL DEFAULT '[]', -- JSON array of teams
    display_name         text NOT NULL DEFAULT '',
    status               text NOT NULL CHECK (status IN ('active', 'disabled')),
    username             text NOT NULL,
    email                text NOT NULL DEFAULT '',
    email_verified       boolean NOT NULL DEFAULT false,
    search               text NOT NULL, -- username, e-mail and display name, folded
    password_hash        text NOT NULL DEFAULT '',
    password_set_by      text NOT NULL DEFAULT '',
    password_changed_at  timestamptz,
    must_change          boolean NOT NULL DEFAULT false,
    temporary_until      timestamptz,
    password_disabled_at timestamptz,
    generation           bigint NOT NULL DEFAULT 1,
    version              bigint NOT NULL DEFAULT 1,
    revision             bigint NOT NULL DEFAULT 1,
    last_sign_in_at      timestamptz,
    created_at           timestamptz NOT NULL
);
CREATE INDEX users_by_account ON users (account_id, id);

-- The one namespace: every username and confirmed e-mail, in use or held.
CREATE TABLE identifiers (
    key         text CONSTRAINT identifiers_key PRIMARY KEY, -- folded
    user_id     text NOT NULL REFERENCES users (id),
    account_id  text NOT NULL,
    is_username boolean NOT NULL,
    is_email    boolean NOT NULL,
    held_until  timestamptz -- set when it is neither any more
);
CREATE INDEX identifiers_by_user ON identifiers (user_id);

CREATE TABLE username_history (
    id               text PRIMARY KEY,
    user_id          text NOT NULL REFERENCES users (id),
    account_id       text NOT NULL,
    username         text NOT NULL,
    key              text NOT NULL,
    held_from        timestamptz NOT NULL,
    held_until       timestamptz,
    changed_by_kind  text NOT NULL,
    changed_by_id    text NOT NULL,
    changed_by_name  text NOT NULL
);
CREATE INDEX username_history_by_user ON username_history (user_id, held_from);
CREATE INDEX username_history_by_key ON username_history (key, held_from);
CREATE UNIQUE INDEX username_history_current ON username_history (user_id) WHERE held_until IS NULL;

CREATE TABLE sessions (
    id            text PRIMARY KEY,
    user_id       text NOT NULL REFERENCES users (id),
    account_id    text NOT NULL,
    generation    bigint NOT NULL,
    must_change   boolean NOT NULL,
    signed_in_at  timestamptz NOT NULL,
    last_used_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    end_reason    text NOT NULL DEFAULT '',
    refresh_count bigint NOT NULL,
    refresh_salt  text NOT NULL,
    ip            text NOT NULL,
    network       text NOT NULL,
    user_agent    text NOT NULL
);
CREATE INDEX sessions_live ON sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE known_networks (
    user_id         text NOT NULL REFERENCES users (id),
    network         text NOT NULL,
    last_sign_in_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, network)
);

CREATE TABLE throttles (
    key           text PRIMARY KEY,
    subject       text NOT NULL,
    failures      integer NOT NULL,
    in_flight     integer NOT NULL,
    lease_until   timestamptz,
    blocked_until timestamptz,
    updated_at    timestamptz NOT NULL
);
CREATE INDEX throttles_by_subject ON throttles (subject);
CREATE INDEX throttles_by_update ON throttles (updated_at);

CREATE TABLE rates (
    key text PRIMARY KEY,
    tat bigint NOT NULL -- theoretical arrival time of the generic cell rate algorithm, microseconds since 1970
);

-- Append-only: the service's role may INSERT and SELECT.
CREATE TABLE audit_events (
    id          text PRIMARY KEY,
    account_id  text NOT NULL, -- no reference: '-' is the chain of names nobody has
    at          timestamptz NOT NULL,
    action      text NOT NULL,
    outcome     text NOT NULL,
    actor_kind  text NOT NULL,
    actor_id    text NOT NULL,
    actor_username  text NOT NULL,
    actor_name  text NOT NULL,
    target_kind text NOT NULL,
    target_id   text NOT NULL,
    target_username text NOT NULL,
    target_name text NOT NULL,
    session_id  text NOT NULL,
    reason      text NOT NULL,
    request_id  text NOT NULL,
    ip          text NOT NULL,
    user_agent  text NOT NULL,
    details     text NOT NULL -- JSON
);
CREATE INDEX audit_events_by_account ON audit_events (account_id, at, id);
CREATE INDEX audit_events_by_target ON audit_events (target_id, at) WHERE target_id <> '';

-- The hash chain of each account, one link an event. Append-only.
CREATE TABLE audit_seals (
    account_id text NOT NULL,
    sequence   bigint NOT NULL,
    event_id   text NOT NULL UNIQUE,
    digest     text NOT NULL,
    chain      text NOT NULL,
    PRIMARY KEY (account_id, sequence)
);

-- Committed events that wait for the sealer, written with the event.
CREATE TABLE audit_unsealed (
    event_id   text PRIMARY KEY,
    account_id text NOT NULL
);
CREATE INDEX audit_unsealed_by_account ON audit_unsealed (account_id, event_id);

CREATE TABLE signing_keys (
    id          text PRIMARY KEY,
    sealed      bytea NOT NULL,
    active_from timestamptz NOT NULL,
    retire_at   timestamptz
);
-- At most one key is the newest: replicas that start together agree on one.
CREATE UNIQUE INDEX signing_keys_newest ON signing_keys ((1)) WHERE retire_at IS NULL;

CREATE TABLE clients (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    account_id  text REFERENCES accounts (id), -- NULL: every account
    scopes      text NOT NULL, -- separated by spaces
    secret_hash text NOT NULL,
    disabled    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL
);

-- +goose Down
DROP TABLE clients, signing_keys, audit_unsealed, audit_seals, audit_events, rates, throttles, known_networks, sessions,
    username_history, identifiers, users, accounts;
