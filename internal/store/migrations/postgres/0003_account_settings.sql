-- +goose Up
-- What an account sets itself; 0, '' and '[]' stand for what the deployment has.
ALTER TABLE accounts ADD COLUMN blocked_words text NOT NULL DEFAULT '[]'; -- JSON array of folded words
ALTER TABLE accounts ADD COLUMN hold_days integer NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN reset_methods text NOT NULL DEFAULT '[]'; -- JSON array
ALTER TABLE accounts ADD COLUMN policy_version bigint NOT NULL DEFAULT 1;
ALTER TABLE accounts ADD COLUMN naming_kind text NOT NULL DEFAULT 'either' CHECK (naming_kind IN ('either', 'login_name', 'email'));
ALTER TABLE accounts ADD COLUMN naming_template text NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN naming_regex text NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN naming_min_length integer NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN naming_max_length integer NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN reserved_names text NOT NULL DEFAULT '[]'; -- JSON array of folded names
ALTER TABLE accounts ADD COLUMN naming_version bigint NOT NULL DEFAULT 1;

-- +goose Down
ALTER TABLE accounts DROP COLUMN naming_version;
ALTER TABLE accounts DROP COLUMN reserved_names;
ALTER TABLE accounts DROP COLUMN naming_max_length;
ALTER TABLE accounts DROP COLUMN naming_min_length;
ALTER TABLE accounts DROP COLUMN naming_regex;
ALTER TABLE accounts DROP COLUMN naming_template;
ALTER TABLE accounts DROP COLUMN naming_kind;
ALTER TABLE accounts DROP COLUMN policy_version;
ALTER TABLE accounts DROP COLUMN reset_methods;
ALTER TABLE accounts DROP COLUMN hold_days;
ALTER TABLE accounts DROP COLUMN blocked_words;
