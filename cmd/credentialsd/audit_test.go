package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
)

// AUD-01, LOG-01, LOG-03, LOG-04, peers bug 14, peers section 4 "names beside UUIDs": what every operation did, or why it did
// not, is in the trail, with who, whom, whose account, from where, when and in which request; never with a secret. When the
// service has ended, all of it is sealed, and every chain is intact.
func TestAudit(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		a := newAuditor(s)
		auditSignIns(a)
		auditOwnChanges(a)
		auditOtherEnds(a)
		auditAdministrators(a)
		auditRefusedAdministrators(a)
		auditServices(a)
		auditServiceTokens(a)
		auditPasswordsOfOld(a)
		a.compare(t)
	})
}

// by makes an event of a user in a session, about somebody.
func by(action audit.Action, outcome audit.Outcome, actor audit.Party, sessionID string, target audit.Party, details audit.Details) audit.Event {
	return audit.Event{Action: action, Outcome: outcome, Actor: actor, SessionID: sessionID, Target: target, Details: details}
}

// byNobody makes an event about somebody of a request that proved nothing about its sender.
func byNobody(action audit.Action, outcome audit.Outcome, target audit.Party, details audit.Details) audit.Event {
	return by(action, outcome, audit.Party{}, "", target, details)
}

// enter signs in, and notes that this is told.
func (a *auditor) enter(name, username, pw string) issued {
	a.t.Helper()
	got := issuedIn(a.want(a.ask(http.MethodPost, "/sessions", "", map[string]string{"username": username, "password": pw}), http.StatusCreated, ""))
	party := a.party(name, username)
	a.tells(by(audit.SignedIn, audit.Done, party, got.session, party, audit.Details{}))
	a.marks = append(a.marks, pw, got.access, got.refresh)
	return got
}

// misses fails to sign in.
func (a *auditor) misses(username, pw string, status int, code string) answer {
	a.t.Helper()
	a.marks = append(a.marks, pw)
	return a.want(a.ask(http.MethodPost, "/sessions", "", map[string]string{"username": username, "password": pw}), status, code)
}

func auditSignIns(a *auditor) {
	alex := a.party("alex", "alex")
	for failures, typed := range []string{"alex", "ALEX"} {
		a.misses(typed, "wrong orbit lantern", http.StatusUnauthorized, "invalid_credentials")
		a.tells(byNobody(audit.SignInFailed, audit.Refused, alex, audit.Details{Code: "wrong_password", Failures: failures + 1}))
	}
	a.misses("dora", demoPassword, http.StatusUnauthorized, "invalid_credentials")
	a.tells(byNobody(audit.SignInFailed, audit.Refused, a.party("dora", "dora"), audit.Details{Code: "disabled", Failures: 1}))

	// A name that nobody has may be a password that was typed into the wrong field.
	const typed = "Mistyped.Orbit.Lantern"
	a.marks = append(a.marks, typed, "mistyped.orbit.lantern")
	sum := sha256.Sum256([]byte("mistyped.orbit.lantern"))
	a.misses(typed, "wrong orbit lantern", http.StatusUnauthorized, "invalid_credentials")
	unknown := byNobody(audit.SignInFailed, audit.Refused, audit.Party{}, audit.Details{Code: "unknown_username", Typed: hex.EncodeToString(sum[:16]), Failures: 1})
	unknown.AccountID = audit.UnknownAccount
	a.tells(unknown)

	// Five failures of one name from one network delay the sixth attempt, which is told of without being counted.
	a.failures("dora", 5, "@127.0.0.0/24")
	a.misses("dora", demoPassword, http.StatusUnauthorized, "invalid_credentials")
	a.tells(byNobody(audit.SignInFailed, audit.Refused, a.party("dora", "dora"), audit.Details{Code: "disabled", Failures: 6}))
	a.misses("dora", demoPassword, http.StatusTooManyRequests, "throttled")
	a.tells(byNobody(audit.SignInFailed, audit.Refused, a.party("dora", "dora"), audit.Details{Code: "throttled"}))
}

func auditOwnChanges(a *auditor) {
	alex, mine := a.party("alex", "alex"), a.enter("alex", "alex", demoPassword)
	change := func(status int, code string, body map[string]string, headers ...string) answer {
		a.t.Helper()
		for _, name := range []string{"new_password", "current_password"} {
			if body[name] != "" {
				a.marks = append(a.marks, body[name])
			}
		}
		return a.want(a.ask(http.MethodPatch, "/users/me/credentials", mine.access, body, headers...), status, code)
	}
	refused := func(details audit.Details) {
		a.tells(by(audit.ChangeRefused, audit.Refused, alex, mine.session, alex, details))
	}

	change(http.StatusForbidden, "wrong_current_password", map[string]string{"new_password": otherPassword, "current_password": "wrong orbit lantern"})
	refused(audit.Details{Code: "wrong_current_password", Failures: 1})
	change(http.StatusUnprocessableEntity, "policy_violation", map[string]string{"username": "admin", "new_password": "too little", "current_password": demoPassword})
	refused(audit.Details{Code: "policy_violation", Violations: []string{"/username reserved", "/new_password too_short"}})
	change(http.StatusUnprocessableEntity, "validation_failed", map[string]string{"new_password": otherPassword})
	refused(audit.Details{Code: "validation_failed", Violations: []string{"/current_password required"}})
	change(http.StatusConflict, "identifier_taken", map[string]string{"username": "bo"})
	refused(audit.Details{Code: "identifier_taken", WantedUsername: "bo"})
	change(http.StatusPreconditionFailed, "precondition_failed", map[string]string{"username": "alex.reed"}, "If-Match", `"7"`)
	refused(audit.Details{Code: "precondition_failed"})
	change(http.StatusOK, "", map[string]string{"username": "alex", "current_password": demoPassword})
	a.tells() // it was so already

	a.enter("alex", "alex", demoPassword)
	done := change(http.StatusOK, "", map[string]string{"username": "alex.reed", "new_password": otherPassword, "current_password": demoPassword})
	a.marks = append(a.marks, done.text("access_token"), done.text("refresh_token"))
	a.tells(by(audit.CredentialsChanged, audit.Done, alex, mine.session, alex,
		audit.Details{Changed: []string{"username", "password"}, OldUsername: "alex", NewUsername: "alex.reed", SessionsEnded: 1}))
	a.want(a.ask(http.MethodDelete, "/sessions/current", done.text("access_token"), nil), http.StatusNoContent, "")
	reed := a.party("alex", "alex.reed")
	a.tells(by(audit.SessionEnded, audit.Done, reed, mine.session, reed, audit.Details{Code: "sign_out"}))
}

// auditOtherEnds are the ends of a session that its user did not ask for.
func auditOtherEnds(a *auditor) {
	first, olga := a.enter("olga", "olga", demoPassword), a.party("olga", "olga")
	a.last.events[0].AccountID = "other"
	newest := first
	for range 2 {
		newest = issuedIn(a.want(a.ask(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": newest.refresh}), http.StatusOK, ""))
		a.marks = append(a.marks, newest.access, newest.refresh)
		a.tells()
	}
	a.want(a.ask(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": first.refresh}), http.StatusUnauthorized, "unauthorized")
	reuse := by(audit.SessionReuse, audit.Refused, audit.Party{}, first.session, olga, audit.Details{})
	reuse.AccountID = "other"
	a.tells(reuse)

	mine, alex := a.enter("alex", "alex.reed", otherPassword), a.party("alex", "alex.reed")
	a.failures("alex", 9, "#"+mine.session)
	body := map[string]string{"username": "reed", "current_password": "wrong orbit lantern"}
	a.want(a.ask(http.MethodPatch, "/users/me/credentials", mine.access, body), http.StatusForbidden, "wrong_current_password")
	a.tells(by(audit.ChangeRefused, audit.Refused, alex, mine.session, alex, audit.Details{Code: "wrong_current_password", Failures: 10}),
		by(audit.SessionEnded, audit.Done, alex, mine.session, alex, audit.Details{Code: "too_many_failures"}))
	a.want(a.ask(http.MethodGet, "/users/me", mine.access, nil), http.StatusUnauthorized, "unauthorized")
	a.tells()
}

func auditAdministrators(a *auditor) {
	mine, ada, bo := a.enter("ada", "ada", demoPassword), a.party("ada", "ada"), a.party("bo", "bo")
	a.enter("bo", "bo", demoPassword)
	path := "/admin/users/" + bo.ID
	a.want(a.ask(http.MethodPatch, path+"/credentials", mine.access,
		map[string]string{"username": "bo.lind", "email": "lind@demo.example", "reason": "Married: a new name"}), http.StatusOK, "")
	changed := by(audit.CredentialsChanged, audit.Done, ada, mine.session, bo, audit.Details{
		Changed: []string{"username", "email"}, OldUsername: "bo", NewUsername: "bo.lind", OldEmail: "bo@demo.example", NewEmail: "lind@demo.example",
	})
	changed.Reason = "Married: a new name"
	a.tells(changed)

	lind := audit.Party{Kind: bo.Kind, ID: bo.ID, Username: "bo.lind", Name: bo.Name}
	done := a.want(a.ask(http.MethodPost, path+"/password-reset", mine.access, map[string]string{"reason": "Forgot it"}), http.StatusOK, "")
	a.marks = append(a.marks, done.text("temporary_password"))
	reset := by(audit.PasswordReset, audit.Done, ada, mine.session, lind, audit.Details{Method: "temporary", SessionsEnded: 1})
	reset.Reason = "Forgot it"
	a.tells(reset)

	a.marks = append(a.marks, thirdPassword)
	a.want(a.ask(http.MethodPost, path+"/password-reset", mine.access, map[string]string{"method": "set", "new_password": thirdPassword}), http.StatusOK, "")
	a.tells(by(audit.PasswordReset, audit.Done, ada, mine.session, lind, audit.Details{Method: "set"}))
}

func auditRefusedAdministrators(a *auditor) {
	mine, erin, bo := a.enter("erin", "erin", demoPassword), a.party("erin", "erin"), a.party("bo", "bo.lind")
	ask := func(method, target, operation string, body map[string]string, status int, code string) {
		a.t.Helper()
		a.want(a.ask(method, "/admin/users/"+target+operation, mine.access, body), status, code)
	}
	// In another account, out of the team, or nobody at all: told in the caller's own account, by the id that was asked for alone.
	for _, id := range []string{a.user("olga").ID, a.user("wanda").ID, "nobody-1"} {
		for method, operation := range map[string]string{http.MethodPost: "/password-reset", http.MethodPatch: "/credentials"} {
			ask(method, id, operation, map[string]string{"reason": "None of mine"}, http.StatusNotFound, "not_found")
			a.tells(by(audit.ChangeRefused, audit.Refused, erin, mine.session, audit.Party{Kind: access.Person, ID: id}, audit.Details{Code: "not_found"}))
		}
	}
	ask(http.MethodPost, erin.ID, "/password-reset", map[string]string{}, http.StatusForbidden, "use_self_service")
	a.tells(by(audit.ChangeRefused, audit.Refused, erin, mine.session, audit.Party{Kind: access.Person, ID: erin.ID}, audit.Details{Code: "use_self_service"}))
	a.marks = append(a.marks, "too little too")
	ask(http.MethodPost, bo.ID, "/password-reset", map[string]string{"method": "set", "new_password": "too little too"}, http.StatusUnprocessableEntity, "policy_violation")
	a.tells(by(audit.ChangeRefused, audit.Refused, erin, mine.session, bo, audit.Details{Code: "policy_violation", Violations: []string{"/new_password too_short"}}))
	ask(http.MethodPatch, bo.ID, "/credentials", map[string]string{"username": "ada", "reason": "Asked for it"}, http.StatusConflict, "identifier_taken")
	taken := by(audit.ChangeRefused, audit.Refused, erin, mine.session, bo, audit.Details{Code: "identifier_taken", WantedUsername: "ada"})
	taken.Reason = "Asked for it"
	a.tells(taken)
}

// serviceParty is the demo client.
func serviceParty() audit.Party {
	return audit.Party{Kind: access.Service, ID: "demo-service", Name: "Demo service"}
}

// askForToken asks for a service's token.
func (a *auditor) askForToken(id, proof, scope string) answer {
	a.t.Helper()
	a.marks = append(a.marks, proof)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {proof}, "scope": {scope}}
	return a.ask(http.MethodPost, "/oauth/token", "", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// auditServices is a service that resets a password: the actor is the service, not the user it does it for.
func auditServices(a *auditor) {
	token := a.want(a.askForToken("demo-service", a.demo.Clients[0].ClientSecret, ""), http.StatusOK, "").text("access_token")
	a.marks = append(a.marks, token)
	a.tells(by(audit.ServiceTokenIssued, audit.Done, serviceParty(), "", audit.Party{}, audit.Details{}))
	bo := a.party("bo", "bo.lind")
	done := a.want(a.ask(http.MethodPost, "/admin/users/"+bo.ID+"/password-reset", token, nil), http.StatusOK, "")
	a.marks = append(a.marks, done.text("temporary_password"))
	a.tells(by(audit.PasswordReset, audit.Done, serviceParty(), "", bo, audit.Details{Method: "temporary"}))
}

func auditServiceTokens(a *auditor) {
	a.want(a.askForToken("demo-service", "wrong orbit lantern", ""), http.StatusUnauthorized, "")
	a.tells(by(audit.ServiceTokenRefused, audit.Refused, serviceParty(), "", audit.Party{}, audit.Details{Code: "invalid_client"}))
	a.want(a.askForToken("demo-service", a.demo.Clients[0].ClientSecret, "everything"), http.StatusBadRequest, "")
	a.tells(by(audit.ServiceTokenRefused, audit.Refused, serviceParty(), "", audit.Party{}, audit.Details{Code: "invalid_scope"}))
	a.marks = append(a.marks, "no-such-client")
	a.want(a.askForToken("no-such-client", "wrong orbit lantern", ""), http.StatusUnauthorized, "")
	unknown := byNobody(audit.ServiceTokenRefused, audit.Refused, audit.Party{}, audit.Details{Code: "invalid_client"})
	unknown.AccountID = audit.UnknownAccount
	a.tells(unknown)
}

// auditPasswordsOfOld are what the service does to a password by itself: a stronger hash, and an end after 100 failures.
func auditPasswordsOfOld(a *auditor) {
	hash, err := bcrypt.GenerateFromPassword([]byte(demoPassword), 10)
	if err != nil {
		a.t.Fatal(err)
	}
	a.storeHash("wanda", string(hash))
	mine, wanda := a.enter("wanda", "wanda", demoPassword), a.party("wanda", "wanda")
	a.tells(a.last.events[0], by(audit.PasswordRehashed, audit.Done, wanda, mine.session, wanda, audit.Details{Scheme: "bcrypt"}))

	a.failures("wanda", 99)
	a.misses("wanda", "wrong orbit lantern", http.StatusUnauthorized, "invalid_credentials")
	a.tells(byNobody(audit.SignInFailed, audit.Refused, wanda, audit.Details{Code: "wrong_password", Failures: 100}),
		byNobody(audit.PasswordDisabled, audit.Done, wanda, audit.Details{Code: "too_many_failures"}))
	a.misses("wanda", demoPassword, http.StatusUnauthorized, "invalid_credentials")
	a.tells(byNobody(audit.SignInFailed, audit.Refused, wanda, audit.Details{Code: "password_disabled", Failures: 100}))
}
