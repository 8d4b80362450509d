// Command berth is the command line of Berth.
package main

import (
	"context"
	"os"

	"github.com/berth-engine/berth/cli"
	_ "github.com/berth-engine/berth/internal/mapped" // the entry point
)

// version is set when the program is linked.
var version = "dev"

func main() {
	app := &cli.App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: version}
	os.Exit(cli.Main(context.Background(), app, os.Args[1:]))
}
