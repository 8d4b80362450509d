package specjson

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Spec reads a configuration.
func Spec(document []byte) (*specs.Spec, error) {
	d := NewDecoder(document)
	s := d.Spec()
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("OCI configuration: %w", err)
	}
	return s, nil
}

// Process reads the configuration of one process (as `exec` takes it).
func Process(document []byte) (*specs.Process, error) {
	d := NewDecoder(document)
	p := d.Process()
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("OCI process configuration: %w", err)
	}
	return p, nil
}

// Spec takes a configuration; nil for a null.
func (d *Decoder) Spec() *specs.Spec {
	if d.Null() {
		return nil
	}
	var s specs.Spec
	d.spec(&s)
	return &s
}

// Process takes a process; nil for a null.
func (d *Decoder) Process() *specs.Process {
	if d.Null() {
		return nil
	}
	var p specs.Process
	d.process(&p)
	return &p
}
