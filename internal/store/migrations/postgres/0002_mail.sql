-- +goose Up
ALTER TABLE users ADD COLUMN pending_email text NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN pending_email_key text NOT NULL DEFAULT ''; -- folded
ALTER TABLE users ADD COLUMN pending_email_until timestamptz;
-- Who waits to confirm an address; few do at any time.
CREATE INDEX users_by_pending_email ON users (account_id, pending_email_key) WHERE pending_email_key <> '';
-- Whom to tell of what happened to the users of an account.
CREATE INDEX users_administrators ON users (account_id) WHERE role = 'administrator';

-- Mailed links: what is kept of their tokens opens nothing.
CREATE TABLE one_time_tokens (
    digest     text PRIMARY KEY, -- hex SHA-256
    user_id    text NOT NULL REFERENCES users (id),
    account_id text NOT NULL,
    purpose    text NOT NULL CHECK (purpose IN ('reset_password', 'confirm_email', 'revert')),
    issued_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    facts      text NOT NULL -- JSON
);
CREATE INDEX one_time_tokens_by_user ON one_time_tokens (user_id, purpose);
CREATE INDEX one_time_tokens_by_expiry ON one_time_tokens (expires_at);

-- Messages that wait to leave, written with the change they tell of; a delivered one is gone.
CREATE TABLE outbox (
    id          text PRIMARY KEY,
    topic       text NOT NULL,
    account_id  text NOT NULL,
    user_id     text NOT NULL,
    kind        text NOT NULL,
    sealed      bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    give_up_at  timestamptz NOT NULL,
    due_at      timestamptz NOT NULL, -- not before; while leased, when the lease ends
    attempts    integer NOT NULL DEFAULT 0,
    lease       text NOT NULL DEFAULT ''
);
CREATE INDEX outbox_due ON outbox (topic, due_at, id);

-- The sorts of apps and browsers that a user has signed in with.
CREATE TABLE known_devices (
    user_id         text NOT NULL REFERENCES users (id),
    device          text NOT NULL,
    last_sign_in_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device)
);

-- +goose Down
DROP TABLE known_devices, outbox, one_time_tokens;
DROP INDEX users_administrators;
DROP INDEX users_by_pending_email;
ALTER TABLE users DROP COLUMN pending_email_until;
ALTER TABLE users DROP COLUMN pending_email_key;
ALTER TABLE users DROP COLUMN pending_email;
