package httpapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/signal"
)

// GetSsfConfiguration tells where the transmitter's endpoints are (SSF 1.0 section 7).
func (s *Server) GetSsfConfiguration(context.Context, api.GetSsfConfigurationRequestObject) (api.GetSsfConfigurationResponseObject, error) {
	base := s.config.PublicURL
	return api.GetSsfConfiguration200JSONResponse{
		SpecVersion: "1_0", Issuer: base, JwksURI: base + "/.well-known/jwks.json",
		DeliveryMethodsSupported: []string{string(signal.Push), string(signal.Poll)},
		ConfigurationEndpoint:    base + "/ssf/streams", StatusEndpoint: base + "/ssf/status", VerificationEndpoint: base + "/ssf/verification",
		AddSubjectEndpoint: base + "/ssf/subjects/add", RemoveSubjectEndpoint: base + "/ssf/subjects/remove",
		AuthorizationSchemes: []api.SsfAuthorizationScheme{{SpecUrn: "urn:ietf:rfc:6749"}},
		DefaultSubjects:      api.SsfConfigurationDefaultSubjectsALL,
	}, nil
}

// ReadStreams shows one of the caller's streams, or lists them.
func (s *Server) ReadStreams(ctx context.Context, request api.ReadStreamsRequestObject) (api.ReadStreamsResponseObject, error) {
	var answer api.ReadStreams200JSONResponse
	if id := request.Params.StreamID; id != nil {
		stream, err := s.signals.Get(ctx, actorOf(ctx), *id)
		if err != nil {
			return nil, err
		}
		return answer, answer.FromStreamConfiguration(s.streamOf(stream))
	}
	streams, err := s.signals.List(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	list := make(api.StreamConfigurations, len(streams))
	for i, stream := range streams {
		list[i] = s.streamOf(stream)
	}
	return answer, answer.FromStreamConfigurations(list)
}

// CreateStream creates the caller's stream.
func (s *Server) CreateStream(ctx context.Context, request api.CreateStreamRequestObject) (api.CreateStreamResponseObject, error) {
	stream, err := s.signals.Create(ctx, actorOf(ctx), signal.Wanted{
		Delivery: deliveryWanted(request.Body.Delivery), Requested: request.Body.EventsRequested, Description: request.Body.Description,
	}, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.CreateStream201JSONResponse(s.streamOf(stream)), nil
}

// UpdateStream changes a stream.
func (s *Server) UpdateStream(ctx context.Context, request api.UpdateStreamRequestObject) (api.UpdateStreamResponseObject, error) {
	stream, err := s.signals.Change(ctx, actorOf(ctx), request.Body.StreamID, changeWanted(*request.Body), false, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.UpdateStream200JSONResponse(s.streamOf(stream)), nil
}

// ReplaceStream replaces all of a stream that its receiver can set.
func (s *Server) ReplaceStream(ctx context.Context, request api.ReplaceStreamRequestObject) (api.ReplaceStreamResponseObject, error) {
	stream, err := s.signals.Change(ctx, actorOf(ctx), request.Body.StreamID, changeWanted(*request.Body), true, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.ReplaceStream200JSONResponse(s.streamOf(stream)), nil
}

func deliveryWanted(d *api.StreamDeliveryWanted) *signal.WantedDelivery {
	if d == nil {
		return nil
	}
	return &signal.WantedDelivery{Method: signal.Method(d.Method), Endpoint: d.EndpointURL, Authorization: d.AuthorizationHeader}
}

func changeWanted(b api.StreamChange) signal.Wanted {
	return signal.Wanted{
		Delivery: deliveryWanted(b.Delivery), Requested: b.EventsRequested, Description: b.Description,
		Echo: signal.Echo{
			Issuer: b.Iss, Audience: b.Aud, Supported: b.EventsSupported, Delivered: b.EventsDelivered, MinVerificationInterval: b.MinVerificationInterval,
		},
	}
}

// streamOf shows a stream to its receiver: never the header that it is pushed with.
func (s *Server) streamOf(stream signal.Stream) api.StreamConfiguration {
	shown := api.StreamConfiguration{
		StreamID: stream.ID, Iss: s.config.PublicURL, Aud: stream.Audience,
		Delivery:        api.StreamDelivery{Method: api.DeliveryMethod(stream.Method), EndpointURL: stream.Endpoint},
		EventsSupported: signal.Supported(), EventsRequested: stream.Requested, EventsDelivered: stream.Delivered(),
		MinVerificationInterval: int(signal.MinVerificationInterval.Seconds()),
	}
	if stream.Method == signal.Poll {
		shown.Delivery.EndpointURL = s.signals.PollEndpoint(stream.ID)
	}
	if stream.Description != "" {
		shown.Description = &stream.Description
	}
	return shown
}

// DeleteStream deletes a stream.
func (s *Server) DeleteStream(ctx context.Context, request api.DeleteStreamRequestObject) (api.DeleteStreamResponseObject, error) {
	if err := s.signals.Delete(ctx, actorOf(ctx), request.Params.StreamID, originOf(ctx)); err != nil {
		return nil, err
	}
	return api.DeleteStream204Response{}, nil
}

// GetStreamStatus shows whether a stream delivers.
func (s *Server) GetStreamStatus(ctx context.Context, request api.GetStreamStatusRequestObject) (api.GetStreamStatusResponseObject, error) {
	stream, err := s.signals.Get(ctx, actorOf(ctx), request.Params.StreamID)
	if err != nil {
		return nil, err
	}
	return api.GetStreamStatus200JSONResponse(statusOf(stream)), nil
}

// SetStreamStatus enables, pauses or disables a stream.
func (s *Server) SetStreamStatus(ctx context.Context, request api.SetStreamStatusRequestObject) (api.SetStreamStatusResponseObject, error) {
	body := request.Body
	stream, err := s.signals.SetStatus(ctx, actorOf(ctx), body.StreamID, signal.Status(body.Status), deref(body.Reason), originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.SetStreamStatus200JSONResponse(statusOf(stream)), nil
}

func statusOf(stream signal.Stream) api.StreamStatus {
	shown := api.StreamStatus{StreamID: stream.ID, Status: api.StreamStatusValue(stream.Status)}
	if stream.Reason != "" {
		shown.Reason = &stream.Reason
	}
	return shown
}

// AddSubject lets a stream hear of a user or an account.
func (s *Server) AddSubject(ctx context.Context, request api.AddSubjectRequestObject) (api.AddSubjectResponseObject, error) {
	if err := s.include(ctx, request.Body.StreamID, request.Body.Subject, true); err != nil {
		return nil, err
	}
	return api.AddSubject200Response{}, nil
}

// RemoveSubject lets a stream hear of a user or an account no longer.
func (s *Server) RemoveSubject(ctx context.Context, request api.RemoveSubjectRequestObject) (api.RemoveSubjectResponseObject, error) {
	if err := s.include(ctx, request.Body.StreamID, request.Body.Subject, false); err != nil {
		return nil, err
	}
	return api.RemoveSubject204Response{}, nil
}

func (s *Server) include(ctx context.Context, id string, subject api.SubjectIdentifier, included bool) error {
	raw, err := json.Marshal(subject)
	if err != nil {
		return fmt.Errorf("httpapi: subject: %w", err)
	}
	rule, err := s.signals.Subject(raw)
	if err != nil {
		return err
	}
	rule.Included = included
	return s.signals.Include(ctx, actorOf(ctx), id, rule, originOf(ctx))
}

// VerifyStream queues a verification event.
func (s *Server) VerifyStream(ctx context.Context, request api.VerifyStreamRequestObject) (api.VerifyStreamResponseObject, error) {
	if err := s.signals.Verify(ctx, actorOf(ctx), request.Body.StreamID, request.Body.State); err != nil {
		return nil, err
	}
	return api.VerifyStream204Response{}, nil
}

// PollStream hands out events (RFC 8936).
func (s *Server) PollStream(ctx context.Context, request api.PollStreamRequestObject) (api.PollStreamResponseObject, error) {
	body := request.Body
	poll := signal.Polling{
		MaxEvents: body.MaxEvents, ReturnImmediately: body.ReturnImmediately != nil && *body.ReturnImmediately,
		Acknowledged: body.Ack, Errors: make(map[string]signal.SETError, len(body.SetErrs)),
	}
	for jti, e := range body.SetErrs {
		poll.Errors[jti] = signal.SETError{Code: e.Err, Description: deref(e.Description)}
	}
	polled, err := s.signals.Polled(ctx, actorOf(ctx), request.StreamID, poll)
	if err != nil {
		return nil, err
	}
	answer := api.PollStream200JSONResponse{Sets: polled.SETs}
	if polled.More {
		answer.MoreAvailable = &polled.More
	}
	return answer, nil
}
