// Command berth-runtime is an OCI runtime, and the shim that the engine starts once per container.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/berth-engine/berth/runtime/oci"
	"github.com/berth-engine/berth/runtime/shim"
)

func main() {
	if len(os.Args) >= 2 && os.Args[1] == "shim" {
		if err := shim.Run(context.Background(), os.NewFile(3, "launch connection")); err != nil {
			fmt.Fprintln(os.Stderr, "berth-runtime:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(oci.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
