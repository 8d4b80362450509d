package runtime

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// least is how much of the machine's memory must be available for slots and idle shims to be kept, in percent.
const least = 5

// memoryIsScarce tells whether what waits should rather not.
func memoryIsScarce() bool {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return false
	}
	defer f.Close()
	values := map[string]int64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 {
			values[fields[0]], _ = strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return values["MemAvailable:"] < values["MemTotal:"]*least/100
}
