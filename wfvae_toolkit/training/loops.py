class EvaluationLoop: pass
class UpdateLoop: pass
