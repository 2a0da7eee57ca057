// Package strictjson reads one JSON object into a struct and takes nothing that could be meant otherwise. encoding/json alone
// takes member names in any case, lets the last of two win, ignores what follows, and turns broken text into U+FFFD, so that
// different passwords would become one.
//
// It is a leaf: it depends on the standard library alone. What arrives from outside as JSON is read with it.
package strictjson

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Error says how a text cannot be read, in words for people that never repeat a value.
type Error struct{ Detail string }

// Error returns the detail.
func (e *Error) Error() string { return "strictjson: " + e.Detail }

// Decode reads text into target, a pointer to a struct whose every field has a name in its json tag. Text must be UTF-8
// without lone surrogates: one object whose members are known, in their exact spelling, once, and not null, and nothing after
// it. A null is taken, and leaves the field alone, where the field has the tag null:"allowed". Members of objects within are
// not looked at in that way. The error is an *Error.
func Decode(text []byte, target any) error {
	if err := checkText(text); err != nil {
		return err
	}
	if err := checkMembers(text, reflect.TypeOf(target).Elem()); err != nil {
		return err
	}
	if err := json.Unmarshal(text, target); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			return &Error{fmt.Sprintf("The member %s has a value of the wrong type.", wrong.Field)}
		}
		return &Error{"A member has a value of the wrong type."}
	}
	return nil
}

// checkText refuses what encoding/json would replace by U+FFFD: bytes that are not UTF-8, and escaped lone surrogates.
func checkText(text []byte) error {
	if !utf8.Valid(text) {
		return &Error{"The text is not UTF-8."}
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		unit, ok := escapedUnit(text[i:])
		if !ok {
			i++ // some other escape: skip what is escaped
			continue
		}
		if unit < 0xD800 || unit > 0xDFFF {
			i += 5
			continue
		}
		low, ok := escapedUnit(text[min(i+6, len(text)):])
		if unit > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
			return &Error{"The text holds half of a surrogate pair."}
		}
		i += 11
	}
	return nil
}

// escapedUnit reads the UTF-16 unit of an escape such as \u00e9 at the start of text.
func escapedUnit(text []byte) (uint16, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := hex.DecodeString(string(text[2:6]))
	if err != nil {
		return 0, false
	}
	return uint16(unit[0])<<8 | uint16(unit[1]), true
}

// checkMembers refuses everything but one object whose members are known, in their exact spelling, once, and not null where
// that means nothing.
func checkMembers(text []byte, shape reflect.Type) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return &Error{"Give one JSON object."}
	}
	known, nullable, seen := memberNames(shape), nullableNames(shape), map[string]bool{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return errNotJSON()
		}
		member, _ := name.(string)
		if !known[member] {
			return &Error{"The object holds a member that is not known here. Known are: " + strings.Join(Members(shape), ", ") + "."}
		}
		if seen[member] {
			return &Error{fmt.Sprintf("The member %s is there twice.", member)}
		}
		seen[member] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return errNotJSON()
		}
		if string(value) == "null" && !nullable[member] {
			return &Error{fmt.Sprintf("The member %s is null: leave it out instead.", member)}
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errNotJSON()
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &Error{"Something follows the JSON object."}
	}
	return nil
}

func errNotJSON() error { return &Error{"The text is not JSON."} }

// Members lists the names of the members that a struct type can hold, in the order of its fields.
func Members(shape reflect.Type) []string {
	var names []string
	for i := range shape.NumField() {
		name, _, _ := strings.Cut(shape.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func memberNames(shape reflect.Type) map[string]bool {
	names := map[string]bool{}
	for _, name := range Members(shape) {
		names[name] = true
	}
	return names
}

func nullableNames(shape reflect.Type) map[string]bool {
	names := map[string]bool{}
	for i, name := range Members(shape) {
		names[name] = shape.Field(i).Tag.Get("null") == "allowed"
	}
	return names
}
