package signals

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// Receiver is the http.Handler of a push endpoint (RFC 8935).
type Receiver struct {
	intake        *intake
	authorization string
}

// NewReceiver returns a Receiver. authorization is the authorization_header that the stream was given, whole, as in "Bearer 9f2c"; a
// request with another one is refused. It may be empty: the signature alone tells who an event is from.
func NewReceiver(verifier *Verifier, authorization string, handle Handler) *Receiver {
	return &Receiver{intake: newIntake(verifier, handle), authorization: authorization}
}

// ServeHTTP answers 202 to an event that is handled, 400 with a code of RFC 8935 to one that is refused, and 503 to one that is to be
// delivered again.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if request.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	given := request.Header.Get("Authorization")
	if r.authorization != "" && subtle.ConstantTimeCompare([]byte(given), []byte(r.authorization)) != 1 {
		writeRefusal(w, RefusedError{Code: "authentication_failed", Why: "the Authorization header is not that of this stream"})
		return
	}
	if media, _, _ := mime.ParseMediaType(request.Header.Get("Content-Type")); media != "application/"+mediaType {
		writeRefusal(w, RefusedError{Code: invalidRequest, Why: "the content is not application/" + mediaType})
		return
	}
	set, err := io.ReadAll(io.LimitReader(request.Body, maxSize+1))
	if err == nil {
		_, err = r.intake.take(request.Context(), string(set))
	}
	if refused, is := errors.AsType[*RefusedError](err); is {
		writeRefusal(w, *refused)
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// writeRefusal answers as RFC 8935 section 2.3 wants it.
func writeRefusal(w http.ResponseWriter, e RefusedError) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Language", "en")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"err": e.Code, "description": e.Why}) // the service may be gone
}
