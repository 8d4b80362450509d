// Command berth-runtime keeps containers: as a shim, which the engine starts once per container.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/berth-engine/berth/runtime/shim"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != "shim" {
		fmt.Fprintln(os.Stderr, "berth-runtime: this program is started by berthd, once for each container")
		os.Exit(2)
	}
	if err := shim.Run(context.Background(), os.NewFile(3, "launch connection")); err != nil {
		fmt.Fprintln(os.Stderr, "berth-runtime:", err)
		os.Exit(1)
	}
}
