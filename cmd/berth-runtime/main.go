// Command berth-runtime is an OCI runtime, and the shim that the engine starts once per container.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/berth-engine/berth/runtime/oci"
	"github.com/berth-engine/berth/runtime/sealed"
	"github.com/berth-engine/berth/runtime/shim"
)

var version = "dev" // set by the linker

func main() {
	if len(os.Args) < 2 || os.Args[1] != "shim" {
		os.Exit(oci.Main(context.Background(), version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if err := keep(); err != nil {
		fmt.Fprintln(os.Stderr, "berth-runtime:", err)
		os.Exit(1)
	}
}

// keep is the shim.
func keep() error {
	if err := sealed.Self("berth-runtime"); err != nil {
		return err
	}
	return shim.Run(context.Background(), os.NewFile(3, "launch connection"))
}
