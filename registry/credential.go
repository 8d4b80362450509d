package registry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
)

// Credential is what one registry is told about who asks. The zero value asks anonymously.
type Credential struct {
	Username, Password string
	// IdentityToken is a refresh token that the registry's token server gave at login. It is used in
	// place of Password. A credential helper marks one by the user name "<token>" and puts it where
	// the password belongs; that form is understood too.
	IdentityToken string
	// RegistryToken is an access token that is sent as it is.
	RegistryToken string
}

// Credentials finds the credential for host, which is the domain of a reference as Docker writes it:
// "docker.io" for Docker Hub (whose entry in config.json is "https://index.docker.io/v1/"), else
// "HOST" or "HOST:PORT". No credential is no error. It is asked once for each host and Client.
type Credentials func(ctx context.Context, host string) (Credential, error)

// helperToken is the user name by which credential helpers mark an identity token.
const helperToken = "<token>"

func (c Credential) normalize() Credential {
	if c.Username == helperToken {
		return Credential{IdentityToken: c.Password, RegistryToken: c.RegistryToken}
	}
	return c
}

func (c Credential) anonymous() bool { return c == Credential{} }

// fingerprint tells credentials apart without keeping them in keys.
func (c Credential) fingerprint() [sha256.Size]byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // four strings
	}
	return sha256.Sum256(b)
}

func (c Credential) basic() string {
	password := c.Password
	if c.IdentityToken != "" {
		password = c.IdentityToken
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+password))
}

// wallet asks for each host's credential once.
type wallet struct {
	ask Credentials // may be nil

	mu    sync.Mutex
	slots map[string]*slot // guarded by mu; by host
}

// slot holds one credential. Whoever has the token of asking may look and set.
type slot struct {
	asking chan struct{} // capacity 1
	known  bool          // guarded by asking
	cred   Credential    // guarded by asking
}

func newWallet(ask Credentials) *wallet { return &wallet{ask: ask, slots: map[string]*slot{}} }

func (w *wallet) get(ctx context.Context, host string) (Credential, error) {
	if w.ask == nil {
		return Credential{}, nil
	}
	w.mu.Lock()
	s, ok := w.slots[host]
	if !ok {
		s = &slot{asking: make(chan struct{}, 1)}
		w.slots[host] = s
	}
	w.mu.Unlock()
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return Credential{}, context.Cause(ctx)
	}
	if s.known {
		return s.cred, nil
	}
	cred, err := w.ask(ctx, host)
	if err != nil {
		return Credential{}, settled{fmt.Errorf("credential for registry %s: %w", host, err)}
	}
	s.cred, s.known = cred.normalize(), true
	return s.cred, nil
}
