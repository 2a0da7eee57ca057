package user_test

import (
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/user"
)

// product.md decision 5, REC-11, AZ-03: the one authority rule.
func TestUser_Manages(t *testing.T) {
	administrator := func(team user.Team, also ...user.Team) user.User {
		return user.User{AccountID: "demo", Role: user.Administrator, Team: team, AlsoManages: also}
	}
	agent := func(team user.Team) user.User { return user.User{AccountID: "demo", Role: user.Agent, Team: team} }
	elsewhere := agent("/")
	elsewhere.AccountID = "other"

	for _, test := range []struct {
		name          string
		actor, target user.User
		want          bool
	}{
		{"whole company manages a branch", administrator("/"), agent("/east/"), true},
		{"own team", administrator("/east/"), agent("/east/"), true},
		{"below the own team", administrator("/east/"), agent("/east/boston/"), true},
		{"a sister team", administrator("/east/"), agent("/west/"), false},
		{"above the own team", administrator("/east/"), agent("/"), false},
		{"a team whose name merely begins alike", administrator("/east/"), agent("/eastern/"), false},
		{"a further team", administrator("/east/", "/west/"), agent("/west/"), true},
		{"an agent manages nobody", agent("/"), agent("/east/"), false},
		{"another account", administrator("/"), elsewhere, false},
		{"a peer administrator", administrator("/"), administrator("/"), true},
		{"a higher administrator", administrator("/east/"), administrator("/"), false},
		{"a target that also manages more", administrator("/east/"), administrator("/east/", "/west/"), false},
		{"a target that also manages less", administrator("/east/"), administrator("/east/", "/east/boston/"), true},
		{"no account at all", user.User{Role: user.Administrator, Team: "/"}, user.User{Team: "/"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.actor.Manages(test.target); got != test.want {
				t.Fatalf("got %v, want %v", got, test.want)
			}
		})
	}
}

// AZ-19: an id that is not of the form is nobody's.
func TestID_Valid(t *testing.T) {
	for id, want := range map[user.ID]bool{
		"0192f0c1-7b1c-7a0e-9d5f-0d9f3d1c2b3a": true, "A_1": true, "": false, "a b": false, "a\x00": false, "../x": false,
		user.ID(strings.Repeat("a", 64)): true, user.ID(strings.Repeat("a", 65)): false,
	} {
		if id.Valid() != want {
			t.Errorf("%q: want %v", id, want)
		}
	}
}

func TestTeam_Valid(t *testing.T) {
	for team, want := range map[user.Team]bool{
		"/": true, "/east/": true, "/east/new york/": true, "": false, "east": false, "/east": false, "//": false, "/a//b/": false,
	} {
		if team.Valid() != want {
			t.Errorf("%q: want %v", team, want)
		}
	}
}
