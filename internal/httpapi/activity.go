package httpapi

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

// ListMySessions lists where the user is signed in.
func (s *Server) ListMySessions(ctx context.Context, request api.ListMySessionsRequestObject) (api.ListMySessionsResponseObject, error) {
	after, limit, err := page(request.Params.Cursor, request.Params.Limit, func(text string) (string, bool) { return text, user.ID(text).Valid() })
	if err != nil {
		return nil, err
	}
	actor := actorOf(ctx)
	sessions, more, err := s.sessions.List(ctx, actor, after, limit)
	if err != nil {
		return nil, err
	}
	list := api.SessionList{Items: make([]api.OwnSession, len(sessions))}
	for i, one := range sessions {
		list.Items[i] = api.OwnSession{
			ID: one.ID, CreatedAt: one.SignedInAt, LastUsedAt: one.LastUsedAt, ExpiresAt: one.ExpiresAt, UserAgent: one.UserAgent, IP: one.IP,
			Current: one.ID == actor.SessionID,
		}
	}
	if more {
		list.NextCursor = cursor(sessions[len(sessions)-1].ID)
	}
	return api.ListMySessions200JSONResponse(list), nil
}

// EndMySession ends one of the user's sessions.
func (s *Server) EndMySession(ctx context.Context, request api.EndMySessionRequestObject) (api.EndMySessionResponseObject, error) {
	if err := s.sessions.End(ctx, actorOf(ctx), request.SessionID, originOf(ctx)); err != nil {
		return nil, err
	}
	return api.EndMySession204Response{}, nil
}

// EndMyOtherSessions ends all of the user's sessions but the one that asks.
func (s *Server) EndMyOtherSessions(ctx context.Context, _ api.EndMyOtherSessionsRequestObject) (api.EndMyOtherSessionsResponseObject, error) {
	ended, err := s.sessions.EndOthers(ctx, actorOf(ctx), originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.EndMyOtherSessions200JSONResponse{SessionsEnded: ended}, nil
}

// ListMyActivity lists what happened to the user's credentials.
func (s *Server) ListMyActivity(ctx context.Context, request api.ListMyActivityRequestObject) (api.ListMyActivityResponseObject, error) {
	before, limit, err := page(request.Params.Cursor, request.Params.Limit, positionOf)
	if err != nil {
		return nil, err
	}
	actor := actorOf(ctx)
	events, more, err := s.credentials.Activity(ctx, actor, before, limit)
	if err != nil {
		return nil, err
	}
	list := api.ActivityList{Items: make([]api.Activity, len(events))}
	for i, event := range events {
		list.Items[i] = activityOf(event, actor.User)
	}
	if more {
		last := events[len(events)-1]
		list.NextCursor = cursor(strconv.FormatInt(last.At.UnixMicro(), 10) + " " + last.ID)
	}
	return api.ListMyActivity200JSONResponse(list), nil
}

// activityOf shows of an event what its user may see: where administrators and services sit, why they did it and which
// request it was is the auditors' affair.
func activityOf(event audit.Event, u user.User) api.Activity {
	d := event.Details
	shown := api.Activity{
		ID: event.ID, At: event.At, Action: string(event.Action), Outcome: api.ActivityOutcome(event.Outcome), By: activityBy(event.Actor, u),
		Details: api.ActivityDetails{
			Changed: d.Changed, OldUsername: textOrNull(d.OldUsername), NewUsername: textOrNull(d.NewUsername), OldEmail: textOrNull(d.OldEmail),
			NewEmail: textOrNull(d.NewEmail), PendingEmail: textOrNull(d.PendingEmail), ReleasedName: textOrNull(d.ReleasedName), Method: textOrNull(d.Method),
			SessionsEnded: numberOrNull(d.SessionsEnded), Code: textOrNull(d.Code),
		},
	}
	if shown.By.Kind == api.ActivityByKindSelf || shown.By.Kind == api.ActivityByKindUnknown {
		shown.IP, shown.UserAgent = textOrNull(event.Origin.IP), textOrNull(event.Origin.UserAgent)
	}
	return shown
}

func activityBy(actor audit.Party, u user.User) api.ActivityBy {
	switch {
	case actor.Kind == access.Person && actor.ID == string(u.ID):
		return api.ActivityBy{Kind: api.ActivityByKindSelf}
	case actor.Kind == access.Person:
		return api.ActivityBy{Kind: api.ActivityByKindAdministrator, Name: textOrNull(actor.Name)}
	case actor.Kind == access.Service:
		return api.ActivityBy{Kind: api.ActivityByKindService, Name: textOrNull(actor.Name)}
	case actor.Kind == access.Nobody:
		return api.ActivityBy{Kind: api.ActivityByKindUnknown}
	}
	return api.ActivityBy{Kind: api.ActivityByKindSystem}
}

// cursor makes a position in a list opaque and safe in a URL.
func cursor(position string) *string {
	encoded := base64.RawURLEncoding.EncodeToString([]byte(position))
	return &encoded
}

// page reads the parameters of a page, and says everything that is wrong with them. read understands the text of a cursor;
// without one its zero value is returned.
func page[T any](sent *string, size *int, read func(text string) (T, bool)) (after T, limit int, err error) {
	var wrong []change.FieldError
	limit = defaultPage
	if size != nil {
		limit = *size
	}
	if limit < 1 || limit > largestPage {
		wrong = append(wrong, change.FieldError{Pointer: "/limit", Code: "invalid", Detail: "Use 1 to " + strconv.Itoa(largestPage) + "."})
	}
	if sent != nil {
		text, decodeErr := base64.RawURLEncoding.DecodeString(*sent)
		var known bool
		after, known = read(string(text))
		if decodeErr != nil || !known {
			wrong = append(wrong, change.FieldError{Pointer: "/cursor", Code: "invalid", Detail: "Use the next_cursor of the page before."})
		}
	}
	if wrong != nil {
		return after, 0, &change.RejectedError{Fields: wrong}
	}
	return after, limit, nil
}

func positionOf(text string) (*audit.Position, bool) {
	at, id, found := strings.Cut(text, " ")
	micros, err := strconv.ParseInt(at, 10, 64)
	if !found || err != nil || micros < 0 || micros > latest || !user.ID(id).Valid() { // events are named like users
		return nil, false
	}
	return &audit.Position{At: time.UnixMicro(micros).UTC(), ID: id}, true
}

// latest is the last time that a cursor can name, in microseconds since 1970: the end of the year 9999.
const latest = 253402300799999999
