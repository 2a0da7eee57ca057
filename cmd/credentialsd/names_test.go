package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/user"
)

// TestNames goes through what a user can be called. Rules that do not touch the database are proven on one of them.
func TestNames(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		runWith(t, s, map[string]func(*testing.T, people){
			"USR-01 USR-03 folded and unique":                     testFoldedNames,
			"USR-04 twenty who want one name":                     testParallelClaims,
			"USR-11 case only":                                    testCaseOnly,
			"USR-09 peers bug 6 one namespace":                    testOneNamespace,
			"decision 11 the own e-mail as username":              testEmailAsUsername,
			"decision 11 peers bug 7 it follows the e-mail":       testUsernameFollowsEmail,
			"peers bug 7 an address that is the username no more": testEmailNoMoreUsername,
		})
	})
	runWith(t, start(t, databaseURL(t, "sqlite")), map[string]func(*testing.T, people){
		"USR-01 USR-02 USR-05 USR-06 USR-07 form": testNameForm,
		"USR-08 e-mail form":                      testEmailForm,
	})
}

// rename asks for another username; a sign-in this fresh needs no current password.
func (p *person) rename(wanted string) answer {
	p.s.t.Helper()
	a := p.s.change(p.token, map[string]string{"username": wanted})
	if a.status == http.StatusOK {
		p.name = a.text("username")
	}
	return a
}

// edit is PATCH /admin/users/{id}/credentials.
func (p people) edit(admin, id string, body any, headers ...string) answer {
	p.s.t.Helper()
	return p.s.call(http.MethodPatch, "/admin/users/"+id+"/credentials", admin, body, headers...)
}

func testFoldedNames(t *testing.T, p people) {
	u, other := p.add("folded"), p.add("other.folded")
	changed := p.s.want(u.rename("ＺＯＥ.Rene\u0301"), http.StatusOK, "")
	if changed.text("username") != "ＺＯＥ.Ren\u00e9" {
		t.Errorf("what is shown is what was typed, in NFC: %s", changed.raw)
	}
	for _, typed := range []string{"zoe.ren\u00e9", "ZOE.RENE\u0301", "ＺＯＥ.Rene\u0301", "Zoe.Ren\u00e9"} {
		p.s.want(p.s.signIn(typed, demoPassword), http.StatusCreated, "")
		p.s.want(other.rename(typed), http.StatusConflict, "identifier_taken")
	}
	oscar := p.s.token("oscar", demoPassword) // nor in another account
	p.s.want(p.edit(oscar, p.s.user("olga").ID, map[string]string{"username": "Zoe.Ren\u00e9"}), http.StatusConflict, "identifier_taken")
	if err := createUser(context.Background(), p.db, user.User{
		ID: "second", AccountID: "demo", Team: "/", Role: user.Agent, Status: user.Active, Username: "ZOE.REN\u00c9", CreatedAt: p.s.clock.now(),
	}); err == nil {
		t.Error("a second user was created with a variant of a taken name")
	}
	db, _ := rawDatabase(t, p.s.databaseURL) // USR-03: the database itself refuses, whoever asks
	if _, err := db.ExecContext(context.Background(), "UPDATE identifiers SET key = 'zoe.ren\u00e9' WHERE key = 'other.folded'"); err == nil {
		t.Error("the database holds one name twice")
	}
}

func testParallelClaims(t *testing.T, p people) {
	claimants := make([]*person, 20)
	for i := range claimants {
		claimants[i] = p.add("claimant" + string(rune('a'+i)))
	}
	variants := []string{"star.seller", "Star.Seller", "STAR.SELLER", "ｓtar.seller"}
	statuses, answers := inParallel(t, len(claimants), func(i int) (answer, error) {
		return p.s.try(http.MethodPatch, "/users/me/credentials", claimants[i].token, map[string]string{"username": variants[i%4]})
	})
	if statuses[http.StatusOK] != 1 || statuses[http.StatusConflict] != 19 {
		t.Errorf("exactly one must get the name: %v", statuses)
	}
	for i, a := range answers {
		row := p.row(claimants[i].id)
		if won := a.status == http.StatusOK; won != (row.Username == variants[i%4]) || (!won && (row.Version != 1 || a.code() != "identifier_taken")) {
			t.Errorf("%d %s, called %s in version %d", a.status, a.code(), row.Username, row.Version)
		}
	}
	p.s.want(p.s.signIn("star.seller", demoPassword), http.StatusCreated, "")
}

func testCaseOnly(t *testing.T, p people) {
	u := p.add("casey")
	for i, same := range []string{"Casey", "CASEY", "casey"} {
		changed := p.s.want(u.rename(same), http.StatusOK, "")
		if changed.text("username") != same || changed.body["version"] != float64(i+2) {
			t.Errorf("after %s: %s", same, changed.raw)
		}
		p.s.want(p.s.signIn("cAsEy", demoPassword), http.StatusCreated, "")
	}
	unchanged := p.s.want(u.rename("casey"), http.StatusOK, "")
	if unchanged.body["version"] != float64(4) || unchanged.header.Get("ETag") != `"4"` {
		t.Errorf("the very same name is no change: %s", unchanged.raw)
	}
}

// One namespace in both directions: nobody's username can be another's e-mail, nor the reverse, in any variant.
func testOneNamespace(t *testing.T, p people) {
	ada := p.s.token("ada", demoPassword)
	mallory := p.add("mallory")
	victim := p.add("victim", func(u *user.User) { u.Email = "Ren\u00e9@b\u00fccher.example" })
	named := p.add("named@demo.example", func(u *user.User) { u.ID, u.Email = "named-by-address", "" })
	variants := []string{"Ren\u00e9@b\u00fccher.example", "RENE\u0301@B\u00dcCHER.EXAMPLE", "ren\u00e9@xn--bcher-kva.example"}
	for _, taken := range variants {
		// The user hears that it is not the own address, and nothing about whose it is.
		a := p.s.want(mallory.rename(taken), http.StatusUnprocessableEntity, "policy_violation")
		if free := mallory.rename("free@demo.example"); !slices.Equal(a.fieldCodes(), []string{"/username invalid"}) || !slices.Equal(free.fieldCodes(), a.fieldCodes()) {
			t.Errorf("%v for another's address, %v for a free one", a.fieldCodes(), free.fieldCodes())
		}
		p.s.want(p.edit(ada, mallory.id, map[string]string{"username": taken}), http.StatusConflict, "identifier_taken")
		p.s.want(p.edit(ada, mallory.id, map[string]string{"email": taken}), http.StatusConflict, "identifier_taken")
		p.s.want(p.edit(p.s.token("oscar", demoPassword), p.s.user("olga").ID, map[string]string{"email": taken}), http.StatusConflict, "identifier_taken")
	}
	for _, taken := range []string{"named@demo.example", "NAMED@Demo.Example"} {
		p.s.want(p.edit(ada, mallory.id, map[string]string{"email": taken}), http.StatusConflict, "identifier_taken")
		p.s.want(p.edit(ada, mallory.id, map[string]string{"username": taken}), http.StatusConflict, "identifier_taken")
	}
	if row := p.row(mallory.id); row.Username != "mallory" || row.Email != "mallory@demo.example" || row.Version != 1 {
		t.Errorf("something was changed: %+v", row)
	}
	// USR-09: dots and tags make another address.
	for _, free := range []string{"na.med@demo.example", "named+x@demo.example"} {
		p.s.want(p.edit(ada, mallory.id, map[string]string{"email": free}), http.StatusOK, "")
	}
	// An e-mail that is given up is held like a name.
	p.s.want(p.edit(ada, victim.id, map[string]string{"email": "victim@demo.example"}), http.StatusOK, "")
	for _, held := range variants {
		p.s.want(p.edit(ada, mallory.id, map[string]string{"username": held}), http.StatusConflict, "identifier_taken")
		p.s.want(p.edit(ada, mallory.id, map[string]string{"email": held}), http.StatusConflict, "identifier_taken")
	}
	p.s.want(p.edit(ada, victim.id, map[string]string{"email": variants[1]}), http.StatusOK, "")
	// An e-mail that is no username signs nobody in.
	p.s.want(p.s.signIn(variants[0], demoPassword), http.StatusUnauthorized, "invalid_credentials")
	p.s.want(p.s.signIn("Named@demo.example", named.pw), http.StatusCreated, "")
}

func testEmailAsUsername(t *testing.T, p people) {
	u := p.add("mail", func(u *user.User) { u.Email = "Mail.Box@demo.example" })
	unconfirmed := p.add("unsure", func(u *user.User) { u.EmailVerified = false })
	p.s.want(unconfirmed.rename("unsure@demo.example"), http.StatusUnprocessableEntity, "policy_violation")
	p.s.want(p.s.signIn("mail.box@demo.example", demoPassword), http.StatusUnauthorized, "invalid_credentials")
	changed := p.s.want(u.rename("mail.box@DEMO.example"), http.StatusOK, "")
	if changed.text("username") != "mail.box@DEMO.example" || changed.text("email") != "Mail.Box@demo.example" {
		t.Errorf("%s", changed.raw)
	}
	p.s.want(p.s.signIn("MAIL.BOX@demo.example", demoPassword), http.StatusCreated, "")
	p.s.want(p.s.signIn("mail", demoPassword), http.StatusUnauthorized, "invalid_credentials")
	// An administrator may give any address.
	ada := p.s.token("ada", demoPassword)
	p.s.want(p.edit(ada, unconfirmed.id, map[string]string{"username": "given@elsewhere.example"}), http.StatusOK, "")
	p.s.want(p.s.signIn("given@elsewhere.example", demoPassword), http.StatusCreated, "")
}

func testUsernameFollowsEmail(t *testing.T, p people) {
	u, squatter, ada := p.add("follow"), p.add("squatter"), p.s.token("ada", demoPassword)
	p.s.want(u.rename("follow@demo.example"), http.StatusOK, "")
	moved := p.s.want(p.edit(ada, u.id, map[string]string{"email": "followed@demo.example"}), http.StatusOK, "")
	if moved.text("username") != "followed@demo.example" || moved.text("email") != "followed@demo.example" || moved.body["version"] != float64(3) {
		t.Errorf("the username must follow the address: %s", moved.raw)
	}
	p.s.want(p.s.signIn("follow@demo.example", demoPassword), http.StatusUnauthorized, "invalid_credentials")
	p.s.want(p.s.signIn("followed@demo.example", demoPassword), http.StatusCreated, "")
	for _, member := range []string{"username", "email"} {
		p.s.want(p.edit(ada, squatter.id, map[string]string{member: "Follow@demo.example"}), http.StatusConflict, "identifier_taken")
	}
	history := p.s.want(p.s.call(http.MethodGet, "/admin/users/"+u.id+"/username-history", ada, nil), http.StatusOK, "")
	if items := history.body["items"].([]any); len(items) != 3 || items[1].(map[string]any)["username"] != "follow@demo.example" {
		t.Errorf("history: %s", history.raw)
	}
	// Where the administrator names another username, that one counts; and a username that is not the address stays.
	p.s.want(p.edit(ada, u.id, map[string]string{"email": "third@demo.example", "username": "follow"}), http.StatusOK, "")
	stays := p.s.want(p.edit(ada, u.id, map[string]string{"email": "fourth@demo.example"}), http.StatusOK, "")
	if stays.text("username") != "follow" {
		t.Errorf("%s", stays.raw)
	}
}

func testEmailNoMoreUsername(t *testing.T, p people) {
	u, other, ada := p.add("leaver"), p.add("other.leaver"), p.s.token("ada", demoPassword)
	p.s.want(u.rename("leaver@demo.example"), http.StatusOK, "")
	p.s.want(u.rename("left"), http.StatusOK, "")
	p.s.want(p.s.signIn("leaver@demo.example", demoPassword), http.StatusUnauthorized, "invalid_credentials")
	p.s.want(p.s.signIn("left", demoPassword), http.StatusCreated, "")
	for _, member := range []string{"username", "email"} { // it still is the user's e-mail
		p.s.want(p.edit(ada, other.id, map[string]string{member: "leaver@demo.example"}), http.StatusConflict, "identifier_taken")
	}
	p.s.want(p.edit(ada, u.id, map[string]string{"email": ""}), http.StatusOK, "")
	for _, member := range []string{"username", "email"} { // and now is held
		p.s.want(p.edit(ada, other.id, map[string]string{member: "leaver@demo.example"}), http.StatusConflict, "identifier_taken")
	}
	p.s.want(p.edit(ada, u.id, map[string]string{"email": "leaver@demo.example"}), http.StatusOK, "")
	if row := p.row(u.id); row.Username != "left" || row.Email != "leaver@demo.example" {
		t.Errorf("%+v", row)
	}
}

func testNameForm(t *testing.T, p people) {
	u := p.add("former")
	for _, wrong := range []string{
		"a", strings.Repeat("a", 65), "e\u0301", ".alice", "alice.", "_alice", "alice-", "alice smith", " alice", "alice\n", "al\u200bice", "\u00ad\u00ad",
		"henry\u2163", "\u0430lice", "sc\u043ett", "ali\x00ce", "ali/ce", "o'neil", "alice\u202e", "alice\uff20demo.example", strings.Repeat("a", 8000),
	} {
		a := p.s.want(u.rename(wrong), http.StatusUnprocessableEntity, "policy_violation")
		if !slices.Equal(a.fieldCodes(), []string{"/username invalid"}) {
			t.Errorf("%.20q: %v", wrong, a.fieldCodes())
		}
	}
	if a := p.s.want(u.rename(""), http.StatusUnprocessableEntity, "policy_violation"); !slices.Equal(a.fieldCodes(), []string{"/username required"}) {
		t.Errorf("empty: %v", a.fieldCodes())
	}
	for _, reserved := range []string{"admin", "Administrator", "ROOT", "ｓupport", "api", "me", "salesexec", "system"} {
		a := p.s.want(u.rename(reserved), http.StatusUnprocessableEntity, "policy_violation")
		if !slices.Equal(a.fieldCodes(), []string{"/username reserved"}) {
			t.Errorf("%s: %v", reserved, a.fieldCodes())
		}
	}
	for _, right := range []string{"zz", strings.Repeat("a", 64), strings.Repeat("\u00e9", 64), "j.p_doe-2", "42", "Иван.2", "admin2", "らーめん"} {
		p.s.want(u.rename(right), http.StatusOK, "")
		p.s.want(p.s.signIn(right, demoPassword), http.StatusCreated, "")
	}
	// All that is wrong with a request is said at once, and nothing of it is done.
	both := p.s.change(u.token, map[string]string{"username": "admin", "new_password": "short", "current_password": demoPassword})
	p.s.want(both, http.StatusUnprocessableEntity, "policy_violation")
	if !slices.Equal(both.fieldCodes(), []string{"/username reserved", "/new_password too_short"}) {
		t.Errorf("both: %v", both.fieldCodes())
	}
	p.s.want(p.s.change(u.token, `{"username":"al\ud800ice"}`), http.StatusBadRequest, "malformed_request")
	p.s.want(p.s.change(u.token, `{"username":["alice"]}`), http.StatusBadRequest, "malformed_request")
	// An administrator cannot give such names either.
	ada := p.s.token("ada", demoPassword)
	for _, wrong := range []string{"root", "a", "\u0430lice", "two@ats@demo.example"} {
		p.s.want(p.edit(ada, u.id, map[string]string{"username": wrong}), http.StatusUnprocessableEntity, "policy_violation")
	}
}

func testEmailForm(t *testing.T, p people) {
	u, ada := p.add("mailed"), p.s.token("ada", demoPassword)
	local, domain := strings.Repeat("l", 64), strings.Repeat(strings.Repeat("d", 61)+".", 3)+"co" // 64 + 1 + 188
	for _, wrong := range []string{
		"a@b\r\nBcc:x", "a@b.example\r\nBcc:x@y.example", "plain", "@", "a@", "@b.example", "a@b@c.example", "a@localhost", "a b@c.example", "a@b..example",
		"a@.example", "a@b.example.", "A <a@b.example>", "a(c)@b.example", `"a"@b.example`, "a@[192.0.2.1]", ".a@b.example", "a..b@c.example",
		"a@-b.example", "a,b@c.example", "a@b.example,c@d.example", "l" + local + "@b.example", local + "@" + domain + "mm", "a\x00@b.example",
	} {
		a := p.s.want(p.edit(ada, u.id, map[string]string{"email": wrong}), http.StatusUnprocessableEntity, "validation_failed")
		if !slices.Equal(a.fieldCodes(), []string{"/email invalid"}) || strings.Contains(string(a.raw), "Bcc") {
			t.Errorf("%.30q: %s", wrong, a.raw)
		}
	}
	for _, right := range []string{local + "@" + domain + "m", "o'neil+sales@b.example", "ren\u00e9@b\u00fccher.example"} {
		changed := p.s.want(p.edit(ada, u.id, map[string]string{"email": right}), http.StatusOK, "")
		if changed.text("email") != right || changed.body["email_verified"] != true {
			t.Errorf("%s: %s", right, changed.raw)
		}
	}
	// The user's own door refuses the same forms.
	for _, wrong := range []string{"", "plain", "a@b\r\nBcc:x", "A <a@b.example>", "a@b.example,c@d.example"} {
		a := p.s.want(p.s.change(u.token, map[string]string{"email": wrong}), http.StatusUnprocessableEntity, "validation_failed")
		if !slices.Equal(a.fieldCodes(), []string{"/email invalid"}) {
			t.Errorf("%.30q: %s", wrong, a.raw)
		}
	}
}

// Product decision 4, USR-07: a name that is given up is held for 180 days. Its former owner gets it back, nobody else gets it
// in any variant, and then it is free.
func TestNames_held(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		p := peopleOf(s)
		u, other := p.add("holder"), p.add("waiting")
		refused := func(name string) {
			t.Helper()
			s.want(other.rename(name), http.StatusConflict, "identifier_taken")
			s.want(p.edit(s.token("ada", demoPassword), other.id, map[string]string{"username": name}), http.StatusConflict, "identifier_taken")
			s.want(p.edit(s.token("oscar", demoPassword), s.user("olga").ID, map[string]string{"username": name}), http.StatusConflict, "identifier_taken")
		}
		s.want(u.rename("holder.two"), http.StatusOK, "")
		for _, variant := range []string{"holder", "HOLDER", "Ｈolder"} {
			refused(variant)
			s.want(s.signIn(variant, demoPassword), http.StatusUnauthorized, "invalid_credentials") // held names sign nobody in
		}
		s.want(u.rename("Holder"), http.StatusOK, "") // taken back, in another case
		refused("holder.two")
		s.want(u.rename("holder.three"), http.StatusOK, "")

		later := func(d time.Duration) {
			s.clock.advance(d)
			u.token, other.token = s.token(u.name, demoPassword), s.token(other.name, demoPassword)
		}
		later(180*24*time.Hour - time.Minute)
		refused("holder")
		refused("Holder.Two")
		later(time.Minute)
		s.want(other.rename("HOLDER"), http.StatusOK, "")
		s.want(u.rename("holder"), http.StatusConflict, "identifier_taken") // the former owner comes too late
		s.want(u.rename("holder.two"), http.StatusOK, "")                   // nobody has asked for this one
		if me := s.want(s.call(http.MethodGet, "/users/me", s.token("holder", demoPassword), nil), http.StatusOK, ""); me.text("id") != other.id {
			t.Errorf("the name opens %s", me.raw)
		}
	})
}

// Decision 4: USERNAME_HOLD says how long a name is held.
func TestNames_heldAsConfigured(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "USERNAME_HOLD=24h")
	p := peopleOf(s)
	u, other := p.add("brief"), p.add("patient")
	s.want(u.rename("brief.two"), http.StatusOK, "")
	s.want(other.rename("brief"), http.StatusConflict, "identifier_taken")
	s.clock.advance(24 * time.Hour)
	other.token = s.token("patient", demoPassword)
	s.want(other.rename("brief"), http.StatusOK, "")
}

// Peers bug 13, USR-04: two users who swap names at the same moment, and two who swap e-mails, hear of a conflict and never of
// a failure.
func TestNames_swap(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		p := peopleOf(s)
		ada := s.token("ada", demoPassword)
		pair := []*person{p.add("left.hand"), p.add("right.hand")}
		statuses, answers := inParallel(t, 8, func(i int) (answer, error) {
			mine, theirs := pair[i%2], pair[(i+1)%2]
			if i%4 < 2 {
				return s.try(http.MethodPatch, "/users/me/credentials", mine.token, map[string]string{"username": theirs.name})
			}
			return s.try(http.MethodPatch, "/admin/users/"+mine.id+"/credentials", ada, map[string]string{"username": theirs.name, "email": theirs.name + "@demo.example"})
		})
		if statuses[http.StatusConflict] != 8 {
			t.Errorf("%v: %s", statuses, answers[0].raw)
		}
		for _, one := range pair {
			if row := p.row(one.id); row.Username != one.name || row.Version != 1 {
				t.Errorf("%s is called %s in version %d", one.name, row.Username, row.Version)
			}
		}
	})
}
