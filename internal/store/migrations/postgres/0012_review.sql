-- +goose Up
-- From how many networks within an hour a person plausibly signs in; 0 stands for what the deployment has.
ALTER TABLE accounts ADD COLUMN max_places integer NOT NULL DEFAULT 0;
-- The credential review asks for the sessions of users, also for those that have ended.
CREATE INDEX sessions_by_user ON sessions (user_id);

-- +goose Down
DROP INDEX sessions_by_user;
ALTER TABLE accounts DROP COLUMN max_places;
