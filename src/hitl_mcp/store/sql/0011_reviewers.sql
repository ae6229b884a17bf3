-- How long a reviewer looked at what a verdict decided; how many approvals one gave within an hour.
ALTER TABLE verdicts ADD COLUMN considered_seconds REAL;

CREATE INDEX verdicts_by_reviewer ON verdicts (reviewer, at);
