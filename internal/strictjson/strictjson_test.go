package strictjson_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/strictjson"
)

type sample struct {
	Name  string   `json:"name"`
	Teams []string `json:"teams,omitempty"`
}

// AZ-10, PW-19: each refusal says what is wrong and where, and never repeats a value. What is refused and what is not is
// proven where requests are bound.
func TestDecode_reasons(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"canary","role":"canary"}`: "The object holds a member that is not known here. Known are: name, teams.",
		`{"Name":"canary"}`:                 "The object holds a member that is not known here. Known are: name, teams.",
		`{"name":"canary","name":"canary"}`: "The member name is there twice.",
		`{"name":null}`:                     "The member name is null: leave it out instead.",
		`{"name":7}`:                        "The member name has a value of the wrong type.",
		`{"teams":["canary",7]}`:            "The member teams has a value of the wrong type.",
		`{"name":"canary"} {}`:              "Something follows the JSON object.",
		`{"name":"canary`:                   "The text is not JSON.",
		`"canary"`:                          "Give one JSON object.",
		``:                                  "Give one JSON object.",
		"{\"name\":\"canary\xff\"}":         "The text is not UTF-8.",
		`{"name":"canary\ud800"}`:           "The text holds half of a surrogate pair.",
	} {
		var got sample
		err := strictjson.Decode([]byte(text), &got)
		wrong, ok := errors.AsType[*strictjson.Error](err)
		if !ok || wrong.Detail != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestDecode(t *testing.T) {
	var got sample
	if err := strictjson.Decode([]byte(` {"teams":["/east/"],"n\u0061me":"\ud83d\ude00"}`), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample{Name: "😀", Teams: []string{"/east/"}}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"name", "teams"}, strictjson.Members(reflect.TypeFor[sample]())); diff != "" {
		t.Error(diff)
	}
}
