//! The OCI runtime specification's config.json, Linux part.
