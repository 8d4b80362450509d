// Command service answers every request with a greeting and the name of the container.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	check := flag.Bool("check", false, "ask the service that runs here whether it is well, and exit")
	flag.Parse()
	if *check {
		answer, err := http.Get("http://127.0.0.1:8080/")
		if err != nil || answer.StatusCode != http.StatusOK {
			os.Exit(1)
		}
		return
	}
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "Hello from %s\n", name) })
	log.Fatal(http.ListenAndServe(":8080", nil))
}
