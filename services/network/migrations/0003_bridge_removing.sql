-- A bridge that is being removed from the hosts of a cluster: one that connects is not given it.
ALTER TABLE cluster_bridge ADD COLUMN removing BIGINT NOT NULL DEFAULT 0;
