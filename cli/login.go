package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/docker/cli/cli/config/types"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berth-engine/berth/cli/client"
)

type loginOptions struct {
	user, password string
	fromStdin      bool
}

func setupLogin(a *App, c *cobra.Command) {
	var o loginOptions
	c.Use = "login [OPTIONS] [SERVER]"
	c.Example = "berth login -u me registry.example.com"
	c.Args = nArgs(0, 1)
	fs := c.Flags()
	fs.StringVarP(&o.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	fs.BoolVar(&o.fromStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	fs.StringVarP(&o.user, "username", "u", "", "Username")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case o.fromStdin && fs.Changed("password"):
			return errors.New("--password and --password-stdin exclude each other")
		case o.fromStdin && o.user == "":
			return errors.New("--password-stdin wants --username beside it")
		case fs.Changed("username") && o.user == "":
			return errors.New("the user name is empty")
		case fs.Changed("password") && o.password == "":
			return errors.New("the password is empty")
		}
		server := "docker.io"
		if len(args) == 1 {
			server = serverName(args[0])
		}
		return a.login(c.Context(), server, o)
	}
}

// serverName is a registry as its credentials are kept: without scheme and path.
func serverName(v string) string {
	for _, scheme := range []string{"https://", "http://"} {
		v = strings.TrimPrefix(v, scheme)
	}
	host, _, _ := strings.Cut(v, "/")
	return host
}

func (a *App) login(ctx context.Context, server string, o loginOptions) error {
	engine, err := a.client()
	if err != nil {
		return err
	}
	if o.user == "" && o.password == "" {
		stored, err := a.credential(server)
		if err == nil && (stored.Username != "" && stored.Password != "" || stored.IdentityToken != "") {
			fmt.Fprintf(a.Err, "Authenticating with existing credentials... [Username: %s]\n", stored.Username)
			status, loginErr := a.tryLogin(ctx, engine, server, stored)
			if loginErr == nil {
				a.printf("%s\n", status)
				return nil
			}
			fmt.Fprintf(a.Err, "Login did not succeed: %v\n", loginErr)
			o.user = stored.Username
		}
	}
	auth, err := a.askCredential(o)
	if err != nil {
		return err
	}
	status, err := a.tryLogin(ctx, engine, server, auth)
	if err != nil {
		return err
	}
	a.printf("%s\n", status)
	return nil
}

// tryLogin lets the engine log in, and keeps the credential when that worked.
func (a *App) tryLogin(ctx context.Context, engine *client.Client, server string, auth types.AuthConfig) (string, error) {
	auth.ServerAddress = credentialKey(server)
	var out struct {
		Status        string
		IdentityToken string
	}
	if err := engine.Call(ctx, "POST", "/auth", nil, auth, &out); err != nil {
		return "", err
	}
	if out.IdentityToken != "" {
		auth.Password, auth.IdentityToken = "", out.IdentityToken
	}
	if out.Status == "" {
		out.Status = "Login Succeeded"
	}
	f, err := a.configFile()
	if err != nil {
		return "", err
	}
	store := f.GetCredentialsStore(auth.ServerAddress)
	if err := store.Store(auth); err != nil {
		return "", fmt.Errorf("logged in, but the credential could not be kept: %w", err)
	}
	if f.CredentialsStore == "" && f.CredentialHelpers[auth.ServerAddress] == "" {
		a.warnf("the password is kept unencrypted in %s; a credential helper can keep it safely", f.Filename)
	}
	return out.Status, nil
}

// askCredential takes what the flags say, and asks for the rest.
func (a *App) askCredential(o loginOptions) (types.AuthConfig, error) {
	auth := types.AuthConfig{Username: o.user, Password: o.password}
	if o.password != "" {
		a.warnf("a password on the command line can be read by others: use --password-stdin")
	}
	if o.fromStdin {
		b, err := io.ReadAll(io.LimitReader(a.In, 1<<20))
		if err != nil {
			return auth, fmt.Errorf("the password could not be read from stdin: %w", err)
		}
		auth.Password = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if strings.TrimSpace(auth.Password) == "" {
			return auth, errEmptyPassword
		}
		return auth, nil
	}
	if auth.Username != "" && auth.Password != "" {
		return auth, nil
	}
	if !a.inIsTerminal() {
		return auth, errors.New("there is no terminal to ask for user name and password: use -u and --password-stdin")
	}
	if auth.Username == "" {
		fmt.Fprint(a.Err, "Username: ")
		line, err := bufio.NewReader(a.In).ReadString('\n')
		if err != nil {
			return auth, fmt.Errorf("the user name could not be read: %w", err)
		}
		if auth.Username = strings.TrimSpace(line); auth.Username == "" {
			return auth, errors.New("the user name is empty")
		}
	}
	if auth.Password == "" {
		password, err := a.askPassword()
		if err != nil {
			return auth, err
		}
		auth.Password = password
	}
	return auth, nil
}

// askPassword reads a line without showing it.
func (a *App) askPassword() (string, error) {
	fd := int(a.In.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	restoreAndDie(signals, func() { _ = term.Restore(fd, state) })
	fmt.Fprint(a.Err, "Password: ")
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(a.Err)
	if err != nil {
		return "", fmt.Errorf("the password could not be read: %w", err)
	}
	if len(b) == 0 {
		return "", errEmptyPassword
	}
	return string(b), nil
}

func setupLogout(a *App, c *cobra.Command) {
	c.Use = "logout [SERVER]"
	c.Example = "berth logout registry.example.com"
	c.Args = nArgs(0, 1)
	c.RunE = func(_ *cobra.Command, args []string) error {
		server, named := "docker.io", hubKey
		if len(args) == 1 {
			server = serverName(args[0])
			named = credentialKey(server)
		}
		f, err := a.configFile()
		if err != nil {
			return err
		}
		if _, ok := f.GetAuthConfigs()[named]; !ok && f.CredentialsStore == "" && f.CredentialHelpers[named] == "" {
			a.printf("Not logged in to %s\n", named)
			return nil
		}
		a.printf("Removing login credentials for %s\n", named)
		if err := f.GetCredentialsStore(named).Erase(named); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the credential for %s could not be removed: %w", server, err)
		}
		return nil
	}
}
