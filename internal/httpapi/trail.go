package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/user"
)

const mediaLines = "application/x-ndjson"

// How long reading a whole trail may take, and sending one window of an export to a slow caller.
const (
	trailTime  = 30 * time.Minute
	windowTime = time.Minute
)

// ListAuditEvents shows one page of the trail, or all that match as a stream.
func (s *Server) ListAuditEvents(ctx context.Context, request api.ListAuditEventsRequestObject) (api.ListAuditEventsResponseObject, error) {
	query, before, limit, err := trailQuery(ctx, request.Params)
	if err != nil {
		return nil, err
	}
	if prefersLines(ctx) {
		export, err := s.trail.Open(ctx, query)
		return exported{ctx: ctx, server: s, export: export}, err
	}
	records, more, err := s.trail.Page(ctx, query, before, limit)
	if err != nil {
		return nil, err
	}
	list := api.AuditEventList{Items: make([]api.AuditEvent, len(records))}
	for i, record := range records {
		if list.Items[i], err = eventOf(record); err != nil {
			return nil, err
		}
	}
	if more {
		last := records[len(records)-1].Event
		cursor := encodePosition(audit.Position{At: last.At, ID: last.ID})
		list.NextCursor = &cursor
	}
	return api.ListAuditEvents200JSONResponse(list), nil
}

// trailQuery reads the parameters, and says everything that is wrong with them.
func trailQuery(ctx context.Context, p api.ListAuditEventsParams) (q audit.Query, before *audit.Position, limit int, err error) {
	account, err := accountOf(ctx, p.AccountID)
	if err != nil {
		return q, nil, 0, err
	}
	q = audit.Query{Actor: actorOf(ctx), AccountID: account, Filter: audit.Filter{
		Actor: deref(p.Actor), Target: deref(p.Target), Action: audit.Action(deref(p.Action)), Outcome: audit.Outcome(deref(p.Outcome)),
	}}
	if p.From != nil {
		q.Filter.From = p.From.UTC()
	}
	if p.To != nil {
		q.Filter.To = p.To.UTC()
	}
	limit = pageOf(p.Limit)
	before, known := decodePosition(deref(p.Cursor))
	lines := prefersLines(ctx)
	id := func(given *string) bool { return given == nil || user.ID(*given).Valid() }
	return q, before, limit, parameters{
		{"actor", id(p.Actor), "Give the id of a user or a service."},
		{"target", id(p.Target), "Give the id of a user."},
		{"action", p.Action == nil || slices.Contains(audit.Actions(), q.Filter.Action), "Use one of the actions that openapi.yaml lists."},
		{"outcome", p.Outcome == nil || q.Filter.Outcome.Valid(), "Use done or refused."},
		{"to", p.From == nil || p.To == nil || p.From.Before(*p.To), "Give a time after from."},
		limitRule(limit),
		{"limit", p.Limit == nil || !lines, "An export holds all matching events: leave limit out."},
		{"cursor", known, otherCursor},
		{"cursor", p.Cursor == nil || !lines, "An export holds all matching events: leave cursor out."},
	}.check()
}

// accountOf returns the account that is meant: the actor's own where it belongs to one and names none.
func accountOf(ctx context.Context, named *string) (string, error) {
	account := actorOf(ctx).OwnAccount()
	if named != nil {
		account = *named
	}
	if account == "" {
		return "", &change.RejectedError{Fields: []change.FieldError{change.Required("/account_id", "Name the account: this client is registered for all of them.")}}
	}
	return account, parameters{{"account_id", user.ID(account).Valid(), "Give the id of an account."}}.check()
}

// A cursor is the time in microseconds and the id of the last event of a page.
func encodePosition(p audit.Position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixMicro(), 10) + "." + p.ID))
}

func decodePosition(cursor string) (p *audit.Position, known bool) {
	if cursor == "" {
		return nil, true
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	at, id, _ := strings.Cut(string(text), ".")
	micros, atErr := strconv.ParseInt(at, 10, 64)
	if err != nil || atErr != nil || !user.ID(id).Valid() || micros < 0 || micros > lastMicro {
		return nil, false
	}
	return &audit.Position{At: time.UnixMicro(micros).UTC(), ID: id}, true
}

// lastMicro is the end of the year 9999, beyond which RFC 3339 has no times.
const lastMicro = 253402300799999999

// eventOf shows an event as it was sealed.
func eventOf(record audit.Record) (api.AuditEvent, error) {
	canonical, err := record.Event.Canonical()
	if err != nil {
		return api.AuditEvent{}, err
	}
	var shown api.AuditEvent
	if err := json.Unmarshal(canonical, &shown); err != nil {
		return api.AuditEvent{}, fmt.Errorf("httpapi: show event %s: %w", record.Event.ID, err)
	}
	if seal := record.Seal; seal != nil {
		shown.Seal = &api.AuditSeal{Sequence: seal.Sequence, Digest: seal.Digest, Chain: seal.Chain}
	}
	return shown, nil
}

// exported is an export on its way out.
type exported struct {
	ctx    context.Context
	server *Server
	export *audit.Export
}

// VisitListAuditEventsResponse streams the export.
func (e exported) VisitListAuditEventsResponse(w http.ResponseWriter) error {
	e.server.stream(e.ctx, w, mediaLines, e.export)
	return nil
}

// windows is what is written a window at a time; before each, ready is asked whether to go on.
type windows interface {
	Write(ctx context.Context, w io.Writer, ready func() error) error
}

// stream answers with what may be long. What goes wrong from here on can be told by breaking off only: the connection is cut, so
// that nobody takes a part for the whole.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, media string, content windows) {
	ctx, cancel := unhurried(ctx, trailTime)
	defer cancel()
	w.Header().Set("Content-Type", media)
	w.WriteHeader(http.StatusOK)
	connection := http.NewResponseController(w)
	err := content.Write(ctx, w, func() error {
		return connection.SetWriteDeadline(time.Now().Add(windowTime)) // the network knows no other clock
	})
	if err != nil {
		s.log.WarnContext(ctx, "an export was broken off", "request_id", originOf(ctx).RequestID, "error", err.Error())
		_ = connection.SetWriteDeadline(time.Unix(1, 0)) // the end of the stream cannot be written any more
	}
}

// prefersLines tells whether the caller asked for a stream of lines, and not just as well for JSON.
func prefersLines(ctx context.Context) bool {
	header, _ := ctx.Value(acceptKey).(string)
	return quality(header, mediaLines) > quality(header, mediaJSON)
}

// quality returns how much a media type is wanted by name (RFC 9110 section 12.5.1); ranges such as */* name none.
func quality(accept, media string) float64 {
	for item := range strings.SplitSeq(accept, ",") {
		named, parameters, err := mime.ParseMediaType(item)
		if err != nil || named != media {
			continue
		}
		q, given := parameters["q"]
		if !given {
			return 1
		}
		wanted, _ := strconv.ParseFloat(q, 64) // 0 for what is none
		return wanted
	}
	return 0
}

// CheckAuditIntegrity checks the chain of an account.
func (s *Server) CheckAuditIntegrity(ctx context.Context, request api.CheckAuditIntegrityRequestObject) (api.CheckAuditIntegrityResponseObject, error) {
	account, err := accountOf(ctx, request.Params.AccountID)
	if err != nil {
		return nil, err
	}
	long, cancel := unhurried(ctx, trailTime)
	defer cancel()
	found, err := s.trail.Check(long, actorOf(ctx), account)
	if err != nil {
		return nil, err
	}
	shown := api.AuditIntegrity{
		AccountID: account, Intact: found.Intact, Events: found.Events, Sequence: found.Sequence, Head: found.Head, CheckedAt: found.CheckedAt.UTC(),
	}
	if found.FirstBroken != "" {
		shown.FirstBroken = &found.FirstBroken
	}
	if from := found.Checkpoint; from.Sequence > 0 {
		shown.Checkpoint = &api.AuditCheckpoint{Sequence: from.Sequence, Chain: from.Chain, PrunedAt: from.PrunedAt}
	}
	return checked{shown}, nil
}

// checked lets an answer be written that took longer than others may.
type checked struct{ api.AuditIntegrity }

// VisitCheckAuditIntegrityResponse gives the answer a time of its own.
func (c checked) VisitCheckAuditIntegrityResponse(w http.ResponseWriter) error {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // best effort: a short check needs it not
	return api.CheckAuditIntegrity200JSONResponse(c.AuditIntegrity).VisitCheckAuditIntegrityResponse(w)
}
