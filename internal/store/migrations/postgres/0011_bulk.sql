-- +goose Up
-- Jobs that reset many users, and each of those users. Who may do it is read from the database whenever it is done.
CREATE TABLE bulk_jobs (
    id             text PRIMARY KEY,
    account_id     text NOT NULL REFERENCES accounts (id),
    actor_kind     text NOT NULL,
    actor_id       text NOT NULL,
    actor_username text NOT NULL,
    actor_name     text NOT NULL,
    session_id     text NOT NULL,
    issuer         text NOT NULL, -- of the token, if another than this service
    scopes         text NOT NULL, -- of a service's token, separated by spaces
    method         text NOT NULL,
    reason         text NOT NULL,
    request_id     text NOT NULL,
    ip             text NOT NULL,
    user_agent     text NOT NULL,
    on_behalf_of   text NOT NULL,
    status         text NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'cancelled')),
    created_at     timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz,
    worked_at      timestamptz NOT NULL -- when an item was last taken up: jobs take turns
);
CREATE INDEX bulk_jobs_by_account ON bulk_jobs (account_id, id);
CREATE INDEX bulk_jobs_unfinished ON bulk_jobs (worked_at) WHERE finished_at IS NULL;

CREATE TABLE bulk_items (
    job_id        text NOT NULL REFERENCES bulk_jobs (id),
    user_id       text NOT NULL, -- as it was asked for: there may be no such user
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'skipped', 'failed', 'cancelled')),
    code          text NOT NULL DEFAULT '',
    username      text NOT NULL DEFAULT '',
    due_at        timestamptz NOT NULL, -- not before; while leased, when the lease ends
    lease         text NOT NULL DEFAULT '',
    attempts      integer NOT NULL DEFAULT 0,
    settled_at    timestamptz,
    sealed        bytea, -- a temporary password, until it is handed out
    expires_at    timestamptz,
    handed_out_at timestamptz,
    PRIMARY KEY (job_id, user_id)
);
CREATE INDEX bulk_items_pending ON bulk_items (job_id, due_at, user_id) WHERE state = 'pending';
CREATE INDEX bulk_items_by_state ON bulk_items (job_id, state, user_id);
CREATE INDEX bulk_items_sealed ON bulk_items (expires_at) WHERE sealed IS NOT NULL;

-- +goose Down
DROP TABLE bulk_items;
DROP TABLE bulk_jobs;
