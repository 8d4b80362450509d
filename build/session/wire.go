package session

import "github.com/berth-engine/berth/internal/frame"

// Frames from the command line. The first bytes of List, Files and Failed are the uvarint id of the
// request that they answer.
const (
	ListFrame       frame.Kind = 10 // a piece of an encoded list; an empty piece ends it
	FilesFrame      frame.Kind = 11 // pieces of files
	FailedFrame     frame.Kind = 12 // Failure: the request is answered with an error
	SecretFrame     frame.Kind = 13 // Secret
	CredentialFrame frame.Kind = 14 // Credential
)

// Frames from the engine.
const (
	ListRequestFrame       frame.Kind = 74 // ListRequest
	FilesRequestFrame      frame.Kind = 75 // FilesRequest
	SecretRequestFrame     frame.Kind = 76 // SecretRequest
	CredentialRequestFrame frame.Kind = 77 // CredentialRequest
)

// FromClient says whether a frame of this kind belongs to the session's engine half.
func FromClient(k frame.Kind) bool { return k >= 10 && k <= 39 }

// FromEngine says whether a frame of this kind belongs to the session's client half.
func FromEngine(k frame.Kind) bool { return k >= 74 && k <= 99 }

// ListRequest asks for the list of a local source. With Files it is a list of these files only (those
// that are there), nothing excluded; otherwise of everything below the root, or below Follow, that
// Exclude does not exclude.
type ListRequest struct {
	ID      uint64
	Source  string
	Files   []string `json:",omitempty"`
	Follow  []string `json:",omitempty"` // paths or patterns; links in them are followed, and listed
	Exclude []string `json:",omitempty"` // in .dockerignore's language
}

// FilesRequest asks for the contents of entries of a list, by their index in it.
type FilesRequest struct {
	ID   uint64
	List uint64 // the ListRequest's ID
	Want []int
}

// Failure answers a request with an error.
type Failure struct {
	ID       uint64
	Text     string // one sentence
	NotFound bool   `json:",omitempty"`
}

// SecretRequest asks for a secret.
type SecretRequest struct {
	ID   uint64
	Name string
}

// Secret answers. Found is false where the command line has none of that name.
type Secret struct {
	ID    uint64
	Found bool
	Data  []byte `json:",omitempty"`
}

// CredentialRequest asks for what to say to a registry.
type CredentialRequest struct {
	ID   uint64
	Host string
}

// Credential answers; without any field set it means anonymous.
type Credential struct {
	ID            uint64
	Username      string `json:",omitempty"`
	Password      string `json:",omitempty"`
	IdentityToken string `json:",omitempty"`
	RegistryToken string `json:",omitempty"`
}

// Flags of a piece in a FilesFrame. A piece is: uvarint index, flags byte, with PieceFirst an encoded
// stat (AppendStat), uvarint length, bytes.
const (
	PieceFirst   = 1 << iota // the file begins (again: what came of it before is void)
	PieceLast                // and ends
	PieceSettled             // with PieceLast: it has not changed lately, so it may be known by its times
)
