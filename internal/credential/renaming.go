package credential

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/identifier"
	"github.com/salesexec/credentials/internal/user"
)

// renaming is a username on its way: what it becomes, and what has to be claimed and released for it.
type renaming struct {
	to      identifier.Username
	display string
	changed bool // the shown name differs from the one before
	moved   bool // and so does the folded one
}

// namer is what a wanted username is judged by.
type namer struct {
	account  user.Account // whose naming rule counts
	user     user.User    // who is to have the name
	email    string       // the user's address when the change is done
	anyEmail bool         // an administrator asks, who may give any address as username
	follows  bool         // nobody asks: the name follows the address, whatever the rule says of new ones
}

// renaming returns what the wanted username makes of the present one, or what is wrong with it as violations of /username.
// The error is a fault of the service.
func (n namer) renaming(wanted string) (renaming, []change.FieldError, error) {
	if wanted == n.user.Username { // also one that a rule of today would not give
		return renaming{display: wanted}, nil, nil
	}
	if wanted == "" {
		return renaming{}, []change.FieldError{change.Required("/username", "Give a username of 2 to 64 letters or digits.")}, nil
	}
	name, err := n.parse(wanted)
	if wrong, ok := errors.AsType[*identifier.Error](err); ok {
		return renaming{}, []change.FieldError{nameError(wrong)}, nil
	}
	r := renaming{to: name, display: name.Display, changed: name.Display != n.user.Username, moved: name.Key != identifier.Key(n.user.Username)}
	if !r.moved || n.follows {
		return r, nil, nil
	}
	wrong, err := NameViolations(n.account, name.Key, identifier.Key(n.email))
	if wrong != nil || err != nil {
		return renaming{}, wrong, err
	}
	return r, nil, nil
}

func nameError(wrong *identifier.Error) change.FieldError {
	return change.FieldError{Pointer: "/username", Code: wrong.Code, Detail: wrong.Detail}
}

// NameViolations returns why a folded username cannot be given in the account, as violations of /username: it is reserved, or
// the naming rule does not allow it. email is the folded address of the user who is to have the name, or "". Whether the
// name is free is the store's to say. The error is a fault of the service.
func NameViolations(account user.Account, key, email string) ([]change.FieldError, error) {
	naming, err := account.Naming.Compile()
	if err != nil {
		return nil, fmt.Errorf("credential: account %s: %w", account.ID, err)
	}
	var wrong []change.FieldError
	for _, f := range CheckName(naming, key, email) {
		wrong = append(wrong, nameError(f))
	}
	return wrong, nil
}

// CheckName is the rule that NameViolations enforces, for an account whose naming rule is compiled already: the report of who
// violates it and the doors that enforce it are one code.
func CheckName(naming *identifier.Naming, key, email string) []*identifier.Error {
	found := naming.Check(key, email)
	kept := slices.ContainsFunc(found, func(wrong *identifier.Error) bool { return wrong.Code == identifier.CodeReserved })
	if identifier.Reserved(key) && !kept {
		found = append(found, &identifier.Error{Code: identifier.CodeReserved, Detail: "This name is reserved. Choose another one."})
	}
	return found
}

// parse allows a user the own confirmed address, and an administrator any (product.md decision 11). The error is an
// *identifier.Error.
func (n namer) parse(wanted string) (identifier.Username, error) {
	if !identifier.LooksLikeEmail(wanted) {
		return identifier.ParseUsername(wanted)
	}
	address, err := identifier.ParseEmail(wanted)
	if err != nil {
		return identifier.Username{}, err
	}
	own, ownErr := identifier.ParseEmail(n.user.Email)
	owned := ownErr == nil && n.user.EmailVerified && own.Key == address.Key || address.Key == identifier.Key(n.user.Username)
	if !n.anyEmail && !owned {
		return identifier.Username{}, &identifier.Error{
			Code: identifier.CodeInvalid, Detail: "An e-mail address can be your username only if it is your own confirmed address.",
		}
	}
	return identifier.Username{Display: address.Address, Key: address.Key}, nil
}

// apply writes the renaming into the change.
func (r renaming) apply(c *change.Change, before user.User, by audit.Party, hold time.Duration) {
	c.User.Username = r.display
	c.Rename = &change.Rename{
		UserID: before.ID, AccountID: before.AccountID, OldKey: identifier.Key(before.Username),
		NewUsername: r.display, NewKey: r.to.Key, At: c.At, By: by,
	}
	if !r.moved {
		return
	}
	c.Release = append(c.Release, change.Release{Key: identifier.Key(before.Username), UserID: before.ID, Username: true, HeldUntil: c.At.Add(hold)})
	c.Claim = append(c.Claim, change.Claim{Key: r.to.Key, UserID: before.ID, AccountID: before.AccountID, IsUsername: true})
}
