// Package handover carries what a program knows to its successor in the same process: the daemon replaces itself by a
// newer binary and goes on where it was.
//
// A record is JSON with the shape of its type in front. A record of another shape is an error, never half a record:
// whoever reads it then starts anew. The ages of all times are kept, so that what was old stays old.
package handover

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"
)

// A document is what [Encode] makes.
type document struct {
	Shape string `json:"shape"`
	Value any    `json:"value"`
}

// Encode makes a record of a struct, with all its fields, exported or not. At is the moment that the record is of.
// Errors holds nil pointers of the types whose errors keep their fields; of all others only the text is kept.
func Encode[T any](at time.Time, v T, errs ...error) ([]byte, error) {
	c := codec{at: at, errs: errs}
	value, err := c.encode(reflect.ValueOf(&v).Elem())
	if err != nil {
		return nil, err
	}
	return json.Marshal(document{Shape[T](errs...), value})
}

// Decode reads a record. At is the same moment as that of [Encode], by the clock of this program. An error means that
// nothing was read.
func Decode[T any](at time.Time, record []byte, errs ...error) (T, error) {
	var v, none T
	var d struct {
		Shape string          `json:"shape"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(record, &d); err != nil {
		return none, errors.New("it is spoilt")
	}
	if d.Shape != Shape[T](errs...) {
		return none, fmt.Errorf("it is a %T of another version", none)
	}
	c := codec{at: at, errs: errs}
	if err := c.decode(d.Value, reflect.ValueOf(&v).Elem()); err != nil {
		return none, err
	}
	return v, nil
}

// Shape is the same for two programs that can read each other's records of a type.
func Shape[T any](errs ...error) string {
	var b strings.Builder
	describe(&b, reflect.TypeFor[T](), make(map[reflect.Type]bool))
	for _, e := range errs {
		describe(&b, reflect.TypeOf(e), make(map[reflect.Type]bool))
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}

func describe(b *strings.Builder, t reflect.Type, seen map[reflect.Type]bool) {
	fmt.Fprint(b, t.Kind(), " ", t.Name(), " ")
	if seen[t] || opaque(t) {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			fmt.Fprint(b, f.Name, " ")
			describe(b, f.Type, seen)
		}
	case reflect.Map:
		describe(b, t.Key(), seen)
		describe(b, t.Elem(), seen)
	case reflect.Array, reflect.Slice, reflect.Pointer:
		describe(b, t.Elem(), seen)
	}
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	errorType = reflect.TypeFor[error]()
	textType  = reflect.TypeFor[encoding.TextMarshaler]()
)

// opaque reports whether a value of the type is written as one word.
func opaque(t reflect.Type) bool { return t == timeType || t == errorType || t.Implements(textType) }

type codec struct {
	at   time.Time
	errs []error
}

// reach makes a field readable and settable, exported or not. It must be addressable.
func reach(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}

// An errorRecord is an error: one of [codec.errs] by its place there, or else a text.
type errorRecord struct {
	Kind  int    `json:"kind"` // 0 for a text, else the place, from 1
	Text  string `json:"text,omitempty"`
	Value any    `json:"value,omitempty"`
}

func (c codec) encode(v reflect.Value) (any, error) {
	switch t := v.Type(); {
	case t == timeType:
		at := v.Interface().(time.Time)
		if at.IsZero() {
			return nil, nil
		}
		return int64(c.at.Sub(at)), nil
	case t == errorType:
		return c.encodeError(v)
	case t.Implements(textType):
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	}
	switch v.Kind() {
	case reflect.Bool, reflect.String, reflect.Float64, reflect.Int, reflect.Int64, reflect.Uint8,
		reflect.Uint32, reflect.Uint64:
		return v.Interface(), nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return c.encode(v.Elem())
	case reflect.Struct:
		all := make(map[string]any)
		for i := range v.NumField() {
			value, err := c.encode(reach(v.Field(i)))
			if err != nil {
				return nil, err
			}
			all[v.Type().Field(i).Name] = value
		}
		return all, nil
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.IsNil() {
			return nil, nil
		}
		all := make([]any, v.Len())
		for i := range all {
			value, err := c.encode(v.Index(i))
			if err != nil {
				return nil, err
			}
			all[i] = value
		}
		return all, nil
	case reflect.Map:
		if v.IsNil() {
			return nil, nil
		}
		all := make(map[string]any)
		for key, value := range v.Seq2() {
			element := reflect.New(v.Type().Elem()).Elem()
			element.Set(value)
			encoded, err := c.encode(element)
			if err != nil {
				return nil, err
			}
			all[key.String()] = encoded
		}
		return all, nil
	}
	return nil, fmt.Errorf("a %v cannot be handed over", v.Type())
}

func (c codec) encodeError(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	err := v.Interface().(error)
	for i, e := range c.errs {
		if reflect.TypeOf(e) == reflect.TypeOf(err) && !reflect.ValueOf(err).IsNil() {
			value, cerr := c.encode(reflect.ValueOf(err).Elem())
			return errorRecord{Kind: i + 1, Value: value}, cerr
		}
	}
	return errorRecord{Text: err.Error()}, nil
}

func (c codec) decode(data json.RawMessage, v reflect.Value) error {
	if string(data) == "null" {
		v.SetZero()
		return nil
	}
	switch t := v.Type(); {
	case t == timeType:
		var age int64
		if err := json.Unmarshal(data, &age); err != nil {
			return err
		}
		v.Set(reflect.ValueOf(c.at.Add(-time.Duration(age))))
		return nil
	case t == errorType:
		return c.decodeError(data, v)
	case t.Implements(textType):
		return json.Unmarshal(data, v.Addr().Interface())
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return c.decode(data, v.Elem())
	case reflect.Struct:
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			return err
		}
		if len(all) != v.NumField() {
			return fmt.Errorf("a %v has %d fields", v.Type(), len(all))
		}
		for i := range v.NumField() {
			value, ok := all[v.Type().Field(i).Name]
			if !ok {
				return fmt.Errorf("a %v has no %s", v.Type(), v.Type().Field(i).Name)
			}
			if err := c.decode(value, reach(v.Field(i))); err != nil {
				return err
			}
		}
		return nil
	case reflect.Slice, reflect.Array:
		var all []json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			return err
		}
		if v.Kind() == reflect.Slice {
			v.Set(reflect.MakeSlice(v.Type(), len(all), len(all)))
		} else if len(all) != v.Len() {
			return fmt.Errorf("a %v has %d elements", v.Type(), len(all))
		}
		for i, value := range all {
			if err := c.decode(value, v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			return err
		}
		v.Set(reflect.MakeMap(v.Type()))
		for key, value := range all {
			element := reflect.New(v.Type().Elem()).Elem()
			if err := c.decode(value, element); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
		}
		return nil
	}
	return json.Unmarshal(data, v.Addr().Interface())
}

func (c codec) decodeError(data json.RawMessage, v reflect.Value) error {
	var e struct {
		Kind  int
		Text  string
		Value json.RawMessage
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	if e.Kind == 0 {
		v.Set(reflect.ValueOf(errors.New(e.Text)))
		return nil
	}
	if e.Kind < 1 || e.Kind > len(c.errs) {
		return errors.New("an error of an unknown kind")
	}
	decoded := reflect.New(reflect.TypeOf(c.errs[e.Kind-1]).Elem())
	if err := c.decode(e.Value, decoded.Elem()); err != nil {
		return err
	}
	v.Set(decoded)
	return nil
}
