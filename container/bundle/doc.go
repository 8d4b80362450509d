// Package bundle says what a container's configuration means to an OCI runtime: container.Config and
// what the engine found out at start, as the config.json of the OCI runtime specification.
//
// It decides nothing that a user could not have asked for and touches neither disk nor kernel; the
// defaults are Docker's (moby, daemon/pkg/oci), each with its test.
package bundle
