// Command program prints how much of its own file is mapped when main begins, and how much could be.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	_ "github.com/berth-engine/berth/internal/mapped"
)

func main() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		panic(err)
	}
	var own bool
	var size, resident, n int
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.Contains(line, "-") && !strings.Contains(line, "kB"):
			own = strings.HasSuffix(line, os.Args[0])
		case !own:
		case strings.HasPrefix(line, "Size:"):
			_, _ = fmt.Sscanf(line, "Size: %d kB", &n)
			size += n
		case strings.HasPrefix(line, "Rss:"):
			_, _ = fmt.Sscanf(line, "Rss: %d kB", &n)
			resident += n
		}
	}
	fmt.Println(resident, size)
}
