// A twin of the operator as one writes it with controller-runtime: informers, a workqueue, a full render in each round, an
// update of what differs, and status. It does less (no credentials, no proof, no rules), so that what it needs is a lower bound.
//
// Two controllers: `documents` renders a gateway, `statuses` writes the status of its models beside, eight at a time.
package main

import (
	"context"
	"encoding/json"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

const byGateway = "spec.gatewayRef.name"

// written is what a ConfigMap of ours holds.
type written struct {
	object   *corev1.ConfigMap
	digest   string
	revision int64
}

// known is what is written of a model: of which object, which generation, at which revision.
type known struct {
	uid                  types.UID
	generation, revision int64
}

// documents renders gateways.
type documents struct {
	client.Client
	reader   client.Reader
	lock     sync.Mutex
	written  map[types.NamespacedName]*written
	rendered map[types.NamespacedName]known
	changed  chan event.TypedGenericEvent[*VirtualModel]
}

func (r *documents) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	gateway := &GatewayConfig{}
	if err := r.Get(ctx, request.NamespacedName, gateway); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	list := &VirtualModelList{}
	if err := r.List(ctx, list, client.InNamespace(gateway.Namespace), client.MatchingFields{byGateway: gateway.Name}); err != nil {
		return ctrl.Result{}, err
	}
	all := make([]*VirtualModel, 0, len(list.Items))
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			all = append(all, &list.Items[i])
		}
	}
	revision, err := r.write(ctx, gateway, render(gateway, all))
	if err != nil {
		return ctrl.Result{}, err
	}
	r.announce(all, revision)
	return ctrl.Result{}, r.status(ctx, gateway, revision)
}

// write brings ConfigMaps up to date, the shards first, and returns the revision of the gateway.
func (r *documents) write(ctx context.Context, gateway *GatewayConfig, made []document) (int64, error) {
	revision := gateway.Status.Revision
	pending := []int{}
	for i := range made {
		held, err := r.held(ctx, gateway, &made[i])
		if err != nil {
			return 0, err
		}
		if held != nil {
			revision = max(revision, held.revision)
		}
		if held == nil || held.digest != made[i].text {
			pending = append(pending, i)
		}
	}
	if len(pending) == 0 {
		return revision, nil
	}
	revision++
	for n := len(pending) - 1; n >= 0; n-- {
		if err := r.put(ctx, gateway, &made[pending[n]], revision); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

// held is what is known to be written; read from the API server once.
func (r *documents) held(ctx context.Context, gateway *GatewayConfig, one *document) (*written, error) {
	key := types.NamespacedName{Namespace: gateway.Namespace, Name: one.configMap}
	if found := r.written[key]; found != nil {
		return found, nil
	}
	object := &corev1.ConfigMap{}
	if err := r.reader.Get(ctx, key, object); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	var manifest struct {
		Revision int64 `json:"revision"`
	}
	if err := json.Unmarshal([]byte(object.Data[one.stem+".manifest.json"]), &manifest); err != nil {
		return nil, err
	}
	r.written[key] = &written{object, object.Data[one.stem+".yml"], manifest.Revision}
	return r.written[key], nil
}

func (r *documents) put(ctx context.Context, gateway *GatewayConfig, one *document, revision int64) error {
	key := types.NamespacedName{Namespace: gateway.Namespace, Name: one.configMap}
	controls := true
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	object.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: group.String(), Kind: "GatewayConfig", Name: gateway.Name, UID: gateway.UID, Controller: &controls,
	}}
	object.Data = one.data(gateway, revision)
	var err error
	if before := r.written[key]; before != nil {
		object.ResourceVersion = before.object.ResourceVersion
		err = r.Update(ctx, object)
	} else {
		err = r.Create(ctx, object)
	}
	if err != nil {
		delete(r.written, key)
		return err
	}
	r.written[key] = &written{object, one.text, revision}
	return nil
}

// announce tells `statuses` of the models whose generation is written now.
func (r *documents) announce(all []*VirtualModel, revision int64) {
	for _, model := range all {
		key := client.ObjectKeyFromObject(model)
		r.lock.Lock()
		before := r.rendered[key]
		news := before.uid != model.UID || before.generation != model.Generation
		if news {
			r.rendered[key] = known{model.UID, model.Generation, revision}
		}
		r.lock.Unlock()
		if news {
			r.changed <- event.TypedGenericEvent[*VirtualModel]{Object: model}
		}
	}
}

func (r *documents) status(ctx context.Context, gateway *GatewayConfig, revision int64) error {
	before := gateway.DeepCopyObject().(*GatewayConfig)
	gateway.Status.ObservedGeneration, gateway.Status.Revision = gateway.Generation, revision
	changed := before.Status.Revision != revision || before.Status.ObservedGeneration != gateway.Generation
	changed = conditions(&gateway.Status.Conditions, gateway.Generation) || changed
	if !changed {
		return nil
	}
	return client.IgnoreNotFound(r.Status().Patch(ctx, gateway, client.MergeFrom(before)))
}

// conditions says that all is well; true when that is news.
func conditions(all *[]metav1.Condition, generation int64) bool {
	changed := false
	for _, name := range []string{"Accepted", "ResolvedRefs", "Programmed", "Ready"} {
		one := metav1.Condition{Type: name, Status: metav1.ConditionTrue, Reason: name, ObservedGeneration: generation}
		changed = meta.SetStatusCondition(all, one) || changed
	}
	return changed
}

// statuses writes what a model's owner reads.
type statuses struct {
	client.Client
	documents *documents
}

func (r *statuses) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	model := &VirtualModel{}
	if err := r.Get(ctx, request.NamespacedName, model); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.documents.lock.Lock()
	written := r.documents.rendered[request.NamespacedName]
	r.documents.lock.Unlock()
	if written.uid != model.UID || written.generation != model.Generation || model.Status.ObservedGeneration == model.Generation {
		return ctrl.Result{}, nil // not rendered yet, or said already
	}
	before := model.DeepCopyObject().(*VirtualModel)
	model.Status.ObservedGeneration, model.Status.ModelName, model.Status.Revision = model.Generation, modelName(model), written.revision
	conditions(&model.Status.Conditions, model.Generation)
	err := r.Status().Patch(ctx, model, client.MergeFrom(before))
	if errors.IsNotFound(err) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, err
}

func gatewayOf(_ context.Context, object client.Object) []ctrl.Request {
	name := object.(*VirtualModel).Spec.GatewayRef.Name
	return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

func run() error {
	ctrl.SetLogger(zap.New())
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	if err := addTypes(scheme); err != nil {
		return err
	}
	config := ctrl.GetConfigOrDie()
	config.UserAgent, config.QPS = "controller-runtime-twin", -1 // no limit of its own: the API server decides
	manager, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	index := func(object client.Object) []string { return []string{object.(*VirtualModel).Spec.GatewayRef.Name} }
	if err := manager.GetFieldIndexer().IndexField(context.Background(), &VirtualModel{}, byGateway, index); err != nil {
		return err
	}
	renders := &documents{
		Client: manager.GetClient(), reader: manager.GetAPIReader(), written: map[types.NamespacedName]*written{},
		rendered: map[types.NamespacedName]known{}, changed: make(chan event.TypedGenericEvent[*VirtualModel], 20_000),
	}
	edits := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	err = ctrl.NewControllerManagedBy(manager).Named("documents").For(&GatewayConfig{}, edits).
		Watches(&VirtualModel{}, handler.EnqueueRequestsFromMapFunc(gatewayOf), edits).Complete(renders)
	if err != nil {
		return err
	}
	told := source.Channel(renders.changed, &handler.TypedEnqueueRequestForObject[*VirtualModel]{})
	err = ctrl.NewControllerManagedBy(manager).Named("statuses").WatchesRawSource(told).
		WithOptions(controller.Options{MaxConcurrentReconciles: 8}).Complete(&statuses{manager.GetClient(), renders})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	if err := run(); err != nil {
		ctrl.Log.Error(err, "ended")
		os.Exit(1)
	}
}
