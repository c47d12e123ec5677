-- Hosts and gateways are known by certificates, of which the fingerprint of the public key counts, in
-- place of tokens. No fingerprint equals an earlier token: a host gets a certificate when it joins
-- again, at the next start of its agent, and a gateway from the agent of its host.
ALTER TABLE host RENAME COLUMN token_hash TO public_key;
ALTER TABLE gateway RENAME COLUMN token TO public_key;
UPDATE gateway SET public_key = 'none ' || id;
