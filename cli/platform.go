package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/berth-engine/berth/cli/client"
)

// parsePlatform reads os[/arch[/variant]].
func parsePlatform(v string) (client.Platform, error) {
	parts := strings.Split(v, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return client.Platform{}, fmt.Errorf("%q is not a platform such as linux/amd64 or linux/arm64/v8", v)
	}
	p := client.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// platformQuery sets parameters that are platforms in JSON.
func platformQuery(name string, platforms ...string) (url.Values, error) {
	q := url.Values{}
	for _, v := range platforms {
		if v == "" {
			continue
		}
		p, err := parsePlatform(v)
		if err != nil {
			return nil, fmt.Errorf("--platform: %w", err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		q.Add(name, string(b))
	}
	return q, nil
}
