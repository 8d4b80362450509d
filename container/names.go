package container

import (
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strings"

	"github.com/berth-engine/berth/internal/hexid"
	"github.com/containerd/errdefs"
)

// NewID returns a new container ID: 64 hexadecimal digits, of which the first twelve are a host name.
func NewID() string { return hexid.New() }

// Joins reads a mode like "container:web": whose namespace is joined; false for any other mode.
func Joins(mode string) (other string, joins bool) { return strings.CutPrefix(mode, "container:") }

// ShortID is the first twelve digits.
func ShortID(id string) string { return id[:min(12, len(id))] }

var namePattern = regexp.MustCompile(`^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CheckName refuses what can't be a container's name, in Docker's words.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: %w", name, errdefs.ErrInvalidArgument) // Docker's sentence
	}
	return nil
}

var (
	moods = strings.Fields(`able ample apt arctic astute autumn balanced bold brave breezy bright brisk calm candid
		careful cheerful civil clear clever coastal cordial cosy crisp curious daring deft devoted eager early earnest
		easy elegant even exact fair faithful fearless fleet fluent fond frank free fresh gallant gentle glad golden
		graceful grand happy hardy honest hopeful humble jolly jovial just keen kind lively loyal lucid lucky mellow
		merry mild modest neat nimble noble open patient placid plucky polite prompt proud quick quiet ready rested
		robust sage salty serene sharp sincere sleek smart snug sober solid sound spry stable stately steady still
		stoic stout sturdy sunny sure swift tidal tidy tranquil trim true trusty upbeat vigilant vivid warm wise witty`)
	vessels = strings.Fields(`argo barge bark barque beagle bluenose boat brig caique calypso canoe caravel carrack
		catboat clipper coaster cog coracle corvette cutter dhow dinghy dory endeavour endurance feluca ferry fram
		frigate galleon galley gig gondola haddock hoy hulk jolly junk kayak keel ketch knarr launch lighter lugger
		mayflower nautilus nef packet pilot pinnace pinta pirogue polacca pontoon pram proa punt raft resolution
		sampan santamaria schooner scow shallop skiff sloop smack snow sprite steamer tartane tender tjalk trader
		trawler trireme tug victory wherry whaler xebec yacht yawl`)
)

// RandomName makes a name for a container that was given none: two words, and from the second try on
// a number, so that a full house ends the search.
func RandomName(try int) string {
	name := moods[mathrand.IntN(len(moods))] + "_" + vessels[mathrand.IntN(len(vessels))]
	if try > 0 {
		name += fmt.Sprint(mathrand.IntN(10 << min(4*try, 40)))
	}
	return name
}
